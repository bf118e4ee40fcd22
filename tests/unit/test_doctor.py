"""The doctor on made-up machines: each ailment is found, named and has a command against it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import shmkv
from shmkv.inspect.doctor import Places, examine
from shmkv.inspect.finding import Finding
from shmkv.inspect.geometry import Config, geometry_of
from shmkv.inspect.layout import DEATH
from tests.conftest import MIB, segment_path
from tests.layout.notes import put

GIB = 1 << 30
ME = os.getuid()
as_root = pytest.mark.skipif(ME != 0, reason="needs the right to give files away")


@dataclass
class Machine:
    """A machine in a folder, healthy until a test says otherwise."""

    top: Path
    total: int = 8 * GIB
    free: int = 8 * GIB
    uid: int = ME
    limits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in ("shm", "cgroup", "proc/self", "proc/sys/kernel", "root"):
            (self.top / folder).mkdir(parents=True)
        self.shm.chmod(0o1777)
        self.write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n")
        self.mount("tmpfs", "rw,nosuid,nodev")
        self.write("proc/self/cgroup", "0::/\n")

    @property
    def shm(self) -> Path:
        return self.top / "shm"

    def write(self, path: str, text: str) -> None:
        (self.top / path).parent.mkdir(parents=True, exist_ok=True)
        (self.top / path).write_text(text)

    def mount(self, kind: str, options: str) -> None:
        self.write(
            "proc/self/mounts", f"proc /proc proc rw 0 0\n{kind} {self.shm} {kind} {options} 0 0\n"
        )

    def store(
        self, image: bytes, name: str = "web", uid: int | None = None, mode: int = 0o600
    ) -> Path:
        path = self.shm / f"shmkv.{self.uid if uid is None else uid}.{name}"
        path.write_bytes(image)
        path.chmod(mode)
        return path

    def examine(self, name: str | None = None) -> list[Finding]:
        places = Places(
            shm=self.shm,
            proc=self.top / "proc",
            cgroup=self.top / "cgroup",
            root=self.top / "root",
            uid=self.uid,
            space=lambda _: (self.total, self.free),
        )
        return examine(places, name=name)

    def ailments(self) -> list[Finding]:
        """What is not ok."""
        return [one for one in self.examine() if one.severity != "ok"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def image(store_name: str) -> bytes:
    """The bytes of a good segment of 2 MiB that may grow to 4."""
    with shmkv.open(store_name, size=2 * MIB, max_size=4 * MIB) as store:
        store.set("k", b"v")
    return segment_path(store_name).read_bytes()


def patched(image: bytes, at: int, code: str, value: int) -> bytes:
    raw = bytearray(image)
    struct.pack_into("<" + code, raw, at, value)
    return bytes(raw)


def the(ailments: list[Finding]) -> Finding:
    (one,) = ailments
    return one


def test_a_healthy_machine_has_no_ailment(machine: Machine, image: bytes) -> None:
    machine.store(image)
    found = machine.examine()
    assert {one.severity for one in found} == {"ok"}
    assert {one.topic for one in found} >= {"machine", "shm", "memory", "limits", "store web"}
    assert "Linux 6.1.0-13-amd64" in found[0].text
    assert all(one.fix is None for one in found)


def test_an_empty_folder_is_survived(tmp_path: Path) -> None:
    found = examine(Places(tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "d"))
    assert [one.topic for one in found if one.severity == "problem"] == ["shm"]


def test_this_machine_is_survived() -> None:
    assert examine(Places())


def test_an_old_kernel(machine: Machine) -> None:
    machine.write("proc/sys/kernel/osrelease", "3.10.0-957.el7\n")
    assert the(machine.ailments()).severity == "problem"


# ---- /dev/shm -----------------------------------------------------------------------------------


def test_shm_of_a_container(machine: Machine) -> None:
    machine.total = machine.free = 64 * MIB
    one = the(machine.ailments())
    assert (one.severity, one.topic) == ("warning", "shm")
    assert one.fix == "docker run --shm-size=1g ..."


def test_shm_that_the_stores_will_fill(machine: Machine, image: bytes) -> None:
    machine.store(image)
    machine.total, machine.free = GIB, 4096
    note, one = machine.ailments()
    assert (note.severity, note.fix) == ("note", "shmkv gc --idle 1d --dry-run")
    assert one.severity == "problem"
    assert "stop growing" in one.text
    assert one.fix == f"sudo mount -o remount,size=3g {machine.shm}"


def test_shm_that_is_nearly_full(machine: Machine) -> None:
    machine.free = machine.total // 10
    assert the(machine.ailments()).severity == "warning"


def test_shm_that_is_no_memory(machine: Machine) -> None:
    machine.mount("ext4", "rw")
    one = the(machine.ailments())
    assert one.severity == "problem"
    assert "not tmpfs" in one.text
    assert one.fix.startswith("sudo mount -t tmpfs")  # type: ignore[union-attr]


def test_shm_that_is_no_mount(machine: Machine) -> None:
    machine.write("proc/self/mounts", "")
    assert the(machine.ailments()).severity == "warning"


def test_shm_that_is_read_only(machine: Machine) -> None:
    machine.mount("tmpfs", "ro,nosuid")
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("problem", f"sudo mount -o remount,rw {machine.shm}")


def test_shm_that_keeps_users_out(machine: Machine) -> None:
    machine.shm.chmod(0o755)
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("warning", f"sudo chmod 1777 {machine.shm}")


# ---- memory limits ------------------------------------------------------------------------------


def memory(machine: Machine) -> Finding:
    return the([one for one in machine.examine() if one.topic == "memory"])


def test_no_limit(machine: Machine, image: bytes) -> None:
    machine.store(image)
    machine.write("cgroup/memory.max", "max\n")
    assert memory(machine).severity == "ok"


@pytest.mark.parametrize(
    ("limit", "severity"),
    [(GIB, "ok"), (2 * MIB + 4096, "warning"), (2 * MIB, "warning"), (MIB, "problem")],
)
def test_a_limit_of_version_2(machine: Machine, image: bytes, limit: int, severity: str) -> None:
    machine.store(image)
    machine.write("cgroup/memory.max", f"{limit}\n")
    one = memory(machine)
    assert one.severity == severity
    assert (one.fix is None) == (severity == "ok")


def test_the_least_limit_on_the_way_up_counts(machine: Machine, image: bytes) -> None:
    machine.store(image)
    machine.write("proc/self/cgroup", "0::/system.slice/web.service\n")
    machine.write("cgroup/memory.max", "max\n")
    machine.write("cgroup/system.slice/memory.max", f"{MIB}\n")
    machine.write("cgroup/system.slice/web.service/memory.max", f"{GIB}\n")
    one = memory(machine)
    assert "/system.slice allows 1 MiB" in one.text
    assert one.fix == "sudo systemctl set-property system.slice MemoryMax=4M"


@pytest.mark.parametrize("path", ["/docker/0123", "/"])
def test_a_limit_of_version_1(machine: Machine, image: bytes, path: str) -> None:
    """In a container the path is often the host's, and the limit stands at the top."""
    machine.store(image)
    machine.write("proc/self/cgroup", f"9:name=systemd:/\n4:memory,hugetlb:{path}\n0::/\n")
    machine.write("cgroup/memory/memory.limit_in_bytes", f"{MIB}\n")
    one = memory(machine)
    assert one.severity == "problem"
    assert one.fix.startswith("docker run --memory=4m")  # type: ignore[union-attr]


def test_version_1_without_a_limit(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:memory:/\n")
    machine.write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert "no control group" in memory(machine).text


def test_a_path_that_climbs_out_is_not_followed(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/../../other\n")
    machine.write("other/memory.max", "1\n")
    assert "no control group" in memory(machine).text


# ---- limits of processes, systemd ---------------------------------------------------------------


def limits(space: str = "unlimited", file: str = "unlimited") -> str:
    return (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        f"Max file size             {file:<20} unlimited            bytes     \n"
        f"Max address space         {space:<20} unlimited            bytes     \n"
    )


def test_no_process_limits(machine: Machine) -> None:
    machine.write("proc/self/limits", limits())
    assert machine.ailments() == []


def test_address_space_below_the_largest_store(machine: Machine, image: bytes) -> None:
    machine.store(image)
    machine.write("proc/self/limits", limits(space=str(4 * MIB)))
    assert machine.ailments() == []
    machine.write("proc/self/limits", limits(space=str(4 * MIB - 1)))
    one = the(machine.ailments())
    assert one.severity == "problem"
    assert "address space" in one.text
    assert one.fix.startswith("ulimit -v unlimited")  # type: ignore[union-attr]


def test_file_size_below_a_store_of_the_default_size(machine: Machine) -> None:
    machine.write("proc/self/limits", limits(file=str(100 * MIB)))
    one = the(machine.ailments())
    assert "default size" in one.text
    assert "LimitFSIZE=infinity" in one.fix  # type: ignore[operator]


@pytest.mark.parametrize(
    ("files", "warned"),
    [
        ({}, True),
        ({"etc/systemd/logind.conf": "[Login]\n#RemoveIPC=yes\n"}, True),
        ({"etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n"}, False),
        ({"etc/systemd/logind.conf": "RemoveIPC=no\n"}, True),
        (
            {
                "usr/lib/systemd/logind.conf.d/10-x.conf": "[Login]\nRemoveIPC = no\n",
                "etc/systemd/logind.conf": "[Login]\nRemoveIPC=yes\n",
            },
            False,
        ),
        (
            {
                "usr/lib/systemd/logind.conf.d/10-x.conf": "[Login]\nRemoveIPC=no\n",
                "etc/systemd/logind.conf.d/10-x.conf": "[Login]\nRemoveIPC=yes\n",
            },
            True,
        ),
        ({"var/lib/systemd/linger/4321": ""}, False),
    ],
)
def test_systemd_removes_what_users_leave(
    machine: Machine, files: dict[str, str], warned: bool
) -> None:
    machine.uid = 4321  # a user without a name
    machine.write("root/run/systemd/system/x", "")
    for path, text in files.items():
        machine.write(f"root/{path}", text)
    ailments = machine.ailments()
    assert bool(ailments) == warned
    if warned:
        assert the(ailments).fix == "sudo loginctl enable-linger 4321"


@pytest.mark.parametrize(("uid", "running"), [(999, True), (4321, False)])
def test_systemd_that_does_not_matter(machine: Machine, uid: int, running: bool) -> None:
    machine.uid = uid
    if running:
        machine.write("root/run/systemd/system/x", "")
    assert [one for one in machine.examine() if one.topic == "systemd"] == []


# ---- stores -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "code", "value", "severity", "fix"),
    [
        (0, "Q", 0, "warning", "shmkv gc -- web"),
        (0, "Q", 7, "problem", "shmkv gc -- web"),
        (8, "I", 99, "problem", "shmkv gc -- web"),
        (104, "I", 3, "warning", "df -h /dev/shm"),
        (108, "I", 3, "problem", "shmkv check -s web"),
    ],
)
def test_a_store_that_is_not_well(
    machine: Machine, image: bytes, at: int, code: str, value: int, severity: str, fix: str
) -> None:
    machine.store(patched(image, at, code, value))
    one = the(machine.ailments())
    assert (one.topic, one.severity, one.fix) == ("store web", severity, fix)


def test_a_store_that_was_cut(machine: Machine, image: bytes) -> None:
    machine.store(image[:4096])
    assert the(machine.ailments()).severity == "problem"


def test_dead_attachments(machine: Machine, image: bytes) -> None:
    machine.store(patched(image, 4096, "I", 77))  # a row with a number and without a lock
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("note", "shmkv check --fold -s web")
    assert one.text.endswith("a row: 1")


def test_recent_deaths(machine: Machine, image: bytes) -> None:
    geometry = geometry_of(Config(2 * MIB, 2 * MIB, 0, 1, 1))
    assert geometry is not None
    now, raw = int(Places().now()), bytearray(image)
    for place, ago_s in enumerate((90_000, 7200, 600)):
        at = geometry.off_deaths + place * DEATH.size
        put(raw, at, DEATH, number=place + 1, found_ms=(now - ago_s) * 1000)
    machine.store(bytes(raw))
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("note", "shmkv postmortem -s web")
    assert one.text.endswith("within a day: 2, the last one was found 10 min ago")


def test_a_mode_that_lets_others_in(machine: Machine, image: bytes) -> None:
    path = machine.store(image, mode=0o664)
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("warning", f"chmod 600 {path}")


def test_a_link(machine: Machine, image: bytes) -> None:
    path = machine.shm / f"shmkv.{ME}.web"
    path.symlink_to(machine.store(image, "other"))
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("problem", f"sudo rm -r {path}")


@as_root
def test_a_namesake_of_another_user(machine: Machine, image: bytes) -> None:
    machine.store(image)
    os.chown(machine.store(image, uid=4322), 4322, -1)
    one = the(machine.ailments())
    assert (one.severity, one.fix) == ("note", "shmkv info -s web --owner 4322")


@as_root
@pytest.mark.parametrize(("uid", "severity"), [(ME, "problem"), (4322, "warning")])
def test_a_squatter(machine: Machine, image: bytes, uid: int, severity: str) -> None:
    path = machine.store(image, uid=uid)
    os.chown(path, 4323, -1)
    one = the(machine.ailments())
    assert (one.severity, one.fix) == (severity, f"sudo rm -r {path}")
    assert "user 4323" in one.text


def test_only_the_store_asked_for(machine: Machine, image: bytes) -> None:
    machine.store(image, "a")
    machine.store(image, "b")
    found = [one.topic for one in machine.examine("b")]
    assert "store b" in found
    assert "store a" not in found
