"""A real Chromium for tests of a page: it clicks, types, measures, and tells what the page logged and asked for.

Chromium is driven over the DevTools protocol. It runs in a session of its own that is ended as a whole.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

PATIENCE = 30.0
"""Seconds that anything may take."""

KEYS = {"Escape": 27, "Enter": 13, "Tab": 9}


def chromium() -> str:
    """The path of a Chromium; without one the test fails."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    raise AssertionError("There is no Chromium, and these tests need one: apt-get install chromium")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in this folder."""
    port = folder / "DevToolsActivePort"
    arguments = ("--no-sandbox", "--headless=new", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run")
    process = subprocess.Popen(
        [chromium(), *arguments, f"--user-data-dir={folder}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + PATIENCE
        while not (port.exists() and port.read_text().count("\n") == 1):
            assert process.poll() is None, "Chromium has ended"
            assert time.monotonic() < until, "Chromium does not start"
            time.sleep(0.02)
        number, path = port.read_text().split("\n")
        with connect(f"ws://127.0.0.1:{number}{path}", max_size=None, proxy=None) as connection:
            yield Browser(connection)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


class Browser:
    """A running Chromium."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """What a command of the protocol gives. Raises `AssertionError` if it fails."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(command | ({"sessionId": session} if session else {})))
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                answer: dict[str, Any] = message["result"]
                return answer

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(PATIENCE))
        if "method" in message:
            self.events.append(message)
        return message

    def wait(self, session: str, method: str, **parameters: Any) -> None:
        """Until an event with these parameters has come."""
        wanted = parameters.items()
        while not any(
            one["method"] == method and one.get("sessionId") == session and wanted <= one["params"].items()
            for one in self.events
        ):
            self._next()


class Page:
    """A page of a certain size, in pixels."""

    def __init__(self, browser: Browser, width: int, height: int) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
        self._browser.events.clear()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command for this page."""
        return self._browser.call(method, self._session, **parameters)

    def media(self, medium: str = "", scheme: str = "light") -> None:
        """Paper (`print`) or a screen, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=medium, features=features)

    def load(self, url: str) -> None:
        """Opens a URL, and waits until all of it is there."""
        loader = self.call("Page.navigate", url=url)["loaderId"]
        self._browser.wait(self._session, "Page.lifecycleEvent", loaderId=loader, name="load")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise what it is kept with."""
        parameters = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        found = self.call("Runtime.evaluate", expression=expression, **parameters)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Clicks in the middle of an element, which is brought into view."""
        find = f"document.querySelector({json.dumps(selector)})"
        place = self.js(
            f"(() => {{ {find}.scrollIntoView({{block: 'center', inline: 'center'}});"
            f"const at = {find}.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; }})()"
        )
        self.click_at(*place)

    def click_at(self, x: float, y: float) -> None:
        """Clicks at a point of the page's window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Presses a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self) -> bytes:
        """What is to be seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    @property
    def requests(self) -> list[str]:
        """Every URL that the page has asked for, without fragments."""
        return [event["params"]["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    @property
    def problems(self) -> list[str]:
        """Everything that the page has logged as an error or a warning, and what it has thrown."""
        self.js("0")
        logged = [
            *(event["params"]["entry"] for event in self._events("Log.entryAdded")),
            *(event["params"] for event in self._events("Runtime.consoleAPICalled")),
            *(event["params"] for event in self._events("Runtime.exceptionThrown")),
            *(event["params"] for event in self._events("Page.javascriptDialogOpening")),
        ]
        return [json.dumps(entry) for entry in logged]

    def _events(self, method: str) -> Iterator[dict[str, Any]]:
        return (one for one in self._browser.events if one["method"] == method and one["sessionId"] == self._session)
