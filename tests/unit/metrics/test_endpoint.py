"""The endpoint: what it answers, how it binds, and that no client holds it up for long."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmkv
from shmkv.metrics import Address, Endpoint, StoreCollector, endpoint, parse
from tests.stress.support import until
from tests.unit.metrics.scrapes import SECONDS, connect, get, numbers

Serve = Callable[[Address], contextlib.AbstractContextManager[Address]]
PORT = Address(host="127.0.0.1")


@pytest.fixture
def serve(store: shmkv.Store) -> Serve:
    """An endpoint for the store of the test."""
    return lambda address: Endpoint(address, StoreCollector(store.name))


@pytest.fixture
def path() -> Iterator[Path]:
    """Where to make a socket: the folders of pytest may have names that are too long for one."""
    with tempfile.TemporaryDirectory(prefix="shmkv-") as folder:
        yield Path(folder, "web.sock")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints look whether to stop more often than they do in a daemon."""
    monkeypatch.setattr(endpoint, "LOOK_S", 0.02)


@pytest.fixture
def no_handover(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is taken is refused at once."""
    monkeypatch.setattr(endpoint, "HANDOVER_S", 0)


def _speaks_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def unix(path: Path) -> Address:
    return parse(f"unix:{path}")


# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["port", "port 6", "unix"])
def test_a_scrape(serve: Serve, store: shmkv.Store, path: Path, kind: str) -> None:
    if kind == "port 6" and not _speaks_ipv6():
        pytest.skip("this machine has no ::1")
    store["k"] = "v"
    asked = {"port": PORT, "port 6": Address(host="::1"), "unix": unix(path)}[kind]
    with serve(asked) as address:
        for _ in range(3):
            status, content, body = get(address)
            assert (status, content) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert numbers(body)["shmkv_sets_total", store.name] == 1
    with pytest.raises(OSError, match=r"refused|No such file"):
        connect(address)
    until(lambda: "shmkv-metrics" not in [t.name for t in threading.enumerate()], "no thread")


def test_formats(serve: Serve, store: shmkv.Store) -> None:
    with serve(PORT) as address:
        accept = "application/openmetrics-text; version=1.0.0"
        _, content, body = get(address, Accept=accept)
        assert content.startswith("application/openmetrics-text; version=1.0.0")
        assert body.endswith(b"# EOF\n")
        _, _, body = get(address, **{"Accept-Encoding": "gzip"})
        assert numbers(gzip.decompress(body))["shmkv_up", store.name] == 1
        _, _, body = get(address, "/metrics?name[]=shmkv_items")
        assert set(numbers(body)) == {("shmkv_items", store.name)}


def test_a_store_that_is_gone_is_down(serve: Serve, store: shmkv.Store) -> None:
    with serve(PORT) as address:
        shmkv.unlink(store.name)
        assert numbers(get(address)[2]) == {("shmkv_up", store.name): 0}


def test_nonsense_is_answered_and_does_no_harm(serve: Serve, store: shmkv.Store) -> None:
    with serve(PORT) as address:
        for said in (b"\0\0\n\n", b"POST / HTTP/1.1\r\n\r\n", b"x" * 70_000, b"GET\r\n\r\n"):
            with connect(address) as client, contextlib.suppress(ConnectionError):
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
        assert numbers(get(address)[2])["shmkv_up", store.name] == 1


# ---- binding ------------------------------------------------------------------------------------


def test_the_file_is_private_and_goes(serve: Serve, path: Path) -> None:
    former = os.umask(0)
    try:
        with serve(unix(path)):
            found = path.lstat()
            assert stat.S_ISSOCK(found.st_mode)
            assert stat.S_IMODE(found.st_mode) == 0o600
    finally:
        os.umask(former)
    assert not path.exists()


def test_a_stale_file_is_replaced(serve: Serve, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serve(unix(path)) as address:
        assert get(address)[0] == 200
    assert not path.exists()


def test_a_file_of_others_is_left_alone(serve: Serve, path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OSError, match="no socket is in the way"), serve(unix(path)):
        pass
    assert path.read_text() == "precious"
    path.unlink()
    with serve(unix(path)):
        path.unlink()
        path.write_text("another")
    assert path.read_text() == "another"


def test_a_link_is_not_followed(serve: Serve, path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError, match="no socket is in the way"), serve(unix(path)):
        pass
    path.unlink()


def test_no_folder(serve: Serve, path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"unix:.*: No such file") as caught,
        serve(unix(path.parent / "no" / "web")),
    ):
        pass
    assert str(caught.value.strerror).startswith("metrics: ")


@pytest.mark.usefixtures("no_handover")
@pytest.mark.parametrize("kind", ["port", "unix"])
def test_two_at_one_address(serve: Serve, path: Path, kind: str) -> None:
    with serve(PORT if kind == "port" else unix(path)) as address:
        second = serve(address)
        with pytest.raises(OSError, match="is taken by another process: name") as caught:
            second.__enter__()
        assert str(address) in str(caught.value.strerror)
        assert get(address)[0] == 200, "the first is there as before"


@pytest.mark.parametrize("kind", ["port", "unix"])
def test_who_takes_over_waits_a_moment(
    serve: Serve, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first goes when the second has found the address taken."""
    monkeypatch.setattr(endpoint, "HANDOVER_S", 30)
    taken = threading.Event()
    monkeypatch.setattr(endpoint.time, "sleep", lambda _seconds: taken.set())
    status: list[int] = []
    with contextlib.ExitStack() as first:
        address = first.enter_context(serve(PORT if kind == "port" else unix(path)))

        def second() -> None:
            with serve(address) as own:
                status.append(get(own)[0])

        thread = threading.Thread(target=second)
        thread.start()
        assert taken.wait(30)
        first.close()
        thread.join(30)
    assert status == [200]


# ---- slow clients -------------------------------------------------------------------------------


def answering() -> list[str]:
    """The threads of connections."""
    return [one.name for one in threading.enumerate() if "process_request" in one.name]


def test_silent_clients_are_few_and_end(
    serve: Serve, store: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "REQUEST_S", 0.5)
    with serve(PORT) as address, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(address)) for _ in range(endpoint.CONNECTIONS)]
        with connect(address) as more:
            assert more.recv(1) == b"", "it is refused, not kept"
        for one in silent:
            assert one.recv(1) == b""
        until(lambda: not answering(), "their places are free")
        assert numbers(get(address)[2])["shmkv_up", store.name] == 1


class Hand:
    """The time of endpoints, moved by hand; each look at it is counted."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now


def test_a_dripping_client_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, all of them do not."""
    hand = Hand()
    monkeypatch.setattr(endpoint, "time", hand)
    monkeypatch.setattr(endpoint, "REQUEST_S", 60.0)
    with serve(PORT) as address, connect(address) as client:
        until(lambda: bool(answering()), "taken")
        client.setblocking(False)
        for _ in range(9):
            hand.now += 6
            seen = hand.looks
            until(lambda seen=seen: hand.looks > seen + 1, "a look")  # type: ignore[misc]
            client.send(b"x")
            with pytest.raises(BlockingIOError):
                client.recv(1)
        hand.now += 6
        client.settimeout(SECONDS)
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b"", "it is cut off"


def test_it_ends_whatever_clients_do(serve: Serve, path: Path) -> None:
    """A client that says nothing is cut off at once when the endpoint ends."""
    with connect_to(serve, unix(path)) as client:
        assert client.recv(1) == b""


@contextlib.contextmanager
def connect_to(serve: Serve, asked: Address) -> Iterator[socket.socket]:
    """A connection to an endpoint that has ended since."""
    with contextlib.ExitStack() as stack:
        with serve(asked) as address:
            client = stack.enter_context(connect(address))
            client.send(b"GET")
            until(lambda: bool(answering()), "taken")
        yield client
