"""A headless Chromium that opens pages of given widths and colours, with nothing to reach.

Owns: `Browser`, driven through the pipes of its DevTools, and where it is found (`MISSING` says why
it is not).

Promises: every answer is waited for with a limit; the processes and their folder are gone
afterwards, also on failure. Names of hosts lead nowhere, and what a page asks for is told.

Does not: judge pages (`measure.js`, test_look.py).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "" if PROGRAM else "there is no chromium: apt-get install chromium"
SECONDS = 60.0
HEIGHT = 900
PLACES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


class Browser:
    """One process and one tab of it."""

    def __enter__(self) -> Browser:
        assert PROGRAM is not None, MISSING
        self._asked = 0
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="shmkv-page-", ignore_cleanup_errors=True)
            )
            theirs, self._out = os.pipe()
            stack.callback(os.close, self._out)
            self._in, back = os.pipe()
            stack.callback(os.close, self._in)
            try:
                process = _started(folder, theirs, back)
            finally:
                os.close(theirs)
                os.close(back)
            stack.callback(_ended, process)
            target = self._call("Target.createTarget", None, url="about:blank")["targetId"]
            attached = self._call("Target.attachToTarget", None, targetId=target, flatten=True)
            self._session: str = attached["sessionId"]
            for domain in ("Page", "Network", "Runtime"):
                self.call(f"{domain}.enable")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # ---- a page ------------------------------------------------------------------------------

    def show(self, page: Path, *, width: int, dark: bool, media: str = "screen") -> list[str]:
        """Open a file as a screen of that width has it; what it asked for besides itself."""
        self._width = width
        self._screen(HEIGHT)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._events.clear()
        found = self.call("Page.navigate", url=page.as_uri())
        assert "errorText" not in found, found
        end = time.monotonic() + SECONDS
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._read(end)
        asked = [
            str(event["params"]["request"]["url"])
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if url != page.as_uri()]

    def whole(self) -> None:
        """Make the screen as high as the page."""
        self._screen(self.run("Math.ceil(document.documentElement.scrollHeight)"))

    def _screen(self, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=self._width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, script: str) -> Any:
        """The value of a script that is run in the page; the page's own policy binds it not."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    # ---- the pipes ---------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the tab."""
        return self._call(method, self._session, **params)

    def _call(self, method: str, session: str | None, **params: Any) -> dict[str, Any]:
        self._asked += 1
        asked = {"id": self._asked, "method": method, "params": params}
        if session is not None:
            asked["sessionId"] = session
        rest = json.dumps(asked).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._out, rest) :]
        end = time.monotonic() + SECONDS
        while True:
            answer = self._read(end)
            if answer.get("id") == self._asked:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self, end: float) -> dict[str, Any]:
        """The next message; one that nobody asked for is kept too."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0))
            assert ready, f"chromium has not answered within {SECONDS:.0f} s"
            more = os.read(self._in, 1 << 20)
            assert more, "chromium has ended"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if "method" in message:
            self._events.append(message)
        return message


def _started(folder: str, commands: int, answers: int) -> subprocess.Popen[bytes]:
    """Chromium reads commands from descriptor 3 and answers on 4."""
    assert PROGRAM is not None
    line = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
    return subprocess.Popen(
        ["bash", "-c", line, PROGRAM, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(commands, answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | dict.fromkeys(PLACES, folder),
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Its helpers are of its own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
