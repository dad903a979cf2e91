"""A headless Chromium, driven over its own protocol by a pair of pipes: nothing has to be installed besides it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One tab.

    Attributes:
        requests: Addresses that the page asked for, itself aside.
        complaints: What it wrote to the console, and errors of its scripts.
    """

    def __init__(self, write: int, read: int):
        self._write, self._read = os.fdopen(write, "wb", 0), os.fdopen(read, "rb")
        self._number, self._session = 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and what it gives."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])

    def open(self, page: Path, width: int = 1200, dark: bool = False, reduced: bool = False) -> None:
        """Load a page, and wait until it is drawn."""
        self.requests.clear()
        self.complaints.clear()
        features = {"prefers-color-scheme": "dark" if dark else "light"}
        features |= {"prefers-reduced-motion": "reduce"} if reduced else {}
        self.call("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])
        self.resize(width)
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.js("new Promise(done => { const ready = () => document.readyState === 'complete' ? done()"
                " : setTimeout(ready, 20); ready() })")  # fmt: skip
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def js(self, code: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, code: str) -> Any:
        """The value of an expression once it is true; the test fails where it is not within 20 s."""
        found = self.js(
            "new Promise((done, fail) => { const end = Date.now() + 20000; const look = () => {"
            f"const found = {code};"
            "found ? done(found) : Date.now() > end ? fail('not within 20 s') : setTimeout(look, 20) }; look() })"
        )
        assert found
        return found

    def press(self, key: str) -> None:
        """A key, as from a keyboard."""
        more = {"text": "\r", "windowsVirtualKeyCode": 13} if key == "Enter" else {"windowsVirtualKeyCode": 9}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **more)

    def point(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, file: Path, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        parts = bytearray()
        while (byte := self._read.read1(1)) != b"\0":
            assert byte, "Chromium ended"
            parts += byte
        told = json.loads(parts)
        params = told.get("params", {})
        match told.get("method"):
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith(("data:", "blob:")):
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
        return dict(told)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser, which ends with the block."""
    assert CHROMIUM
    (child_in, write), (read, child_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="strop-chromium-", ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{child_in} 4>&{child_out}', "bash", *command],
            pass_fds=(child_in, child_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": profile},
        )  # fmt: skip
        os.close(child_in)
        os.close(child_out)
        tab = None
        try:
            tab = Browser(write, read)
            yield tab
        finally:
            if tab is not None:
                tab._session = ""
                with contextlib.suppress(OSError, AssertionError):
                    tab.call("Browser.close")
                tab._write.close()
                tab._read.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
