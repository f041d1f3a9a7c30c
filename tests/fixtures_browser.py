"""A real browser that can reach nothing but this machine, and what a page did in it."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # The network is closed: no name but this machine's has an address, and the proxy is a port where nobody listens.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--proxy-server=127.0.0.1:1",
    "--proxy-bypass-list=127.0.0.1",
    "--window-size=1400,3000",
    "--remote-debugging-pipe",
]
# Chromium reads commands from descriptor 3 and answers on 4.
LAUNCH = "import os, sys; r, w = int(sys.argv[1]), int(sys.argv[2]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"


def high(descriptor: int) -> int:
    """The same file under a number that is in nobody's way."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


class Refused(Exception):
    """Chromium could not do what it was asked to."""


class Browser:
    """Chromium with one page, driven through its debugging pipe."""

    def __init__(self, chromium: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._count = 0
        self._buffer = b""
        reads, self._commands, self._answers, writes = (high(end) for end in (*os.pipe(), *os.pipe()))
        self._log = (profile.parent / "chromium.log").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(reads), str(writes), chromium, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(reads, writes), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True, env={**os.environ, "HOME": str(profile.parent)},
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a DevTools command; events that come meanwhile are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(until)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(self._answers, 1 << 16) if ready else b""
            assert chunk, f"Chromium says nothing:\n{self._said()}"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].decode("utf-8", "replace")

    def open(self, address: str) -> None:
        """Go to a page, and forget what the one before it did."""
        # An address that differs by its fragment alone would not be loaded again.
        self.command("Page.navigate", url="about:blank")
        self.until("location.href", lambda here: here == "about:blank")
        self.events.clear()
        assert "errorText" not in self.command("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is on the page."""
        result = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, fine: Callable[[Any], bool] = bool) -> Any:
        """The value of an expression once it is as wanted. A page that is still being built has no value."""
        end = time.monotonic() + PATIENCE_S
        tolerant = f"(() => {{ try {{ return ({expression}); }} catch {{ return null; }} }})()"
        while (found := self._now(tolerant)) is None or not fine(found):
            assert time.monotonic() < end, f"{expression} is {found!r}; the page says: {self.text()[:2000]}"
            time.sleep(0.05)
        return found

    def _now(self, expression: str) -> Any:
        """The value of an expression; None between two pages."""
        try:
            return self.value(expression)
        except Refused:
            return None

    def text(self) -> str:
        """What a reader sees."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def failures(self) -> list[str]:
        """What the page's scripts threw and nobody caught."""
        return [
            json.dumps(event["params"])[:500]
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
        ]

    def complaints(self) -> list[str]:
        """What the browser or a script has to complain of: what was thrown, logged, forbidden by the page's policy, or
        not found.
        """
        return self.failures() + [
            json.dumps(event["params"])[:500]
            for event in self.events
            if (
                event.get("method") == "Log.entryAdded"
                and event["params"]["entry"]["level"] in ("error", "warning")
            )
            or (
                event.get("method") == "Runtime.consoleAPICalled"
                and event["params"]["type"] in ("error", "warning", "assert")
            )
        ]

    def shape(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Be a window of this size, on a system that is light or dark."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def click(self, selector: str) -> None:
        """Click in the middle of what a selector finds first, as a hand would."""
        found = json.dumps(selector)
        self.value(f"document.querySelector({found}).scrollIntoView({{block: 'center'}})")
        x, y = self.value(
            f"(() => {{ const box = document.querySelector({found}).getBoundingClientRect();"
            " return [box.left + Math.min(box.width, 40) / 2, box.top + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip

    def write(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        self.command("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select by its value."""
        found = json.dumps(selector)
        assert self.value(
            f"(() => {{ const select = document.querySelector({found}); select.value = {json.dumps(value)};"
            " select.dispatchEvent(new Event('input', {bubbles: true}));"
            f" select.dispatchEvent(new Event('change', {{bubbles: true}})); return select.value === {json.dumps(value)}; }})()"
        ), f"{selector} has no option {value}"

    def texts(self, selector: str) -> list[str]:
        """What everything that a selector finds says, as far as a reader sees it."""
        return list(self.value(
            f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.offsetParent !== null).map(e => e.innerText.trim())"
        ))  # fmt: skip

    def close(self) -> None:
        """End the browser and all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._log.close()


def installed() -> str | None:
    """The Chromium of this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def chromium() -> str:
    """Chromium; CI must have it, elsewhere these tests are skipped without."""
    found = installed()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium, and CI must test the site in one: see .ci/run")
        pytest.skip("there is no Chromium here: the site is not tested in a browser")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser without a past."""
    made_here = Browser(chromium, tmp_path_factory.mktemp("browser") / "profile")
    try:
        yield made_here
    finally:
        made_here.close()
