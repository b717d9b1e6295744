"""Headless Chromium of Debian without a network, controlled through its debugging pipe."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")


class Tab:
    """One page. complaints: warnings and errors on its console, and files that it failed to load."""

    def __init__(self, write: int, read: int):
        self._write, self._read = os.fdopen(write, "wb", buffering=0), os.fdopen(read, "rb")
        self._number = 0
        self.complaints: list[str] = []
        self._session = ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def look(self, width: int, *, dark: bool = False, phone: bool = False) -> None:
        """The size of the window, in CSS pixels, and the scheme of colours."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        self._loaded = False
        self._ask("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._receive()

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, file: Path) -> None:
        image = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(image["data"]))

    def pdf(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._ask("Page.printToPDF", printBackground=False)["data"]))

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        letters = bytearray()
        while (letter := self._read.read(1)) != b"\0":
            assert letter, "Chromium has ended"
            letters += letter
        message = json.loads(letters)
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Log.entryAdded" if params["entry"]["level"] in ("warning", "error"):
                self.complaints.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("warning", "error", "assert"):
                self.complaints.append(str(params["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Network.loadingFailed":
                self.complaints.append(params["errorText"])
        return message


@contextmanager
def opened_tab(profile: Path) -> Iterator[Tab]:
    """A tab of a new browser, which ends with the block. profile: an empty folder for its files."""
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()

    def wire() -> None:
        # The browser reads from 3 and writes to 4; first out of the way, should the pipes have these very numbers.
        ends = os.dup(to_browser), os.dup(from_browser)
        spare = [os.dup2(end, 200 + k) for k, end in enumerate(ends)]
        for k, end in enumerate(spare):
            os.dup2(end, 3 + k)

    browser = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
         f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"],
        preexec_fn=wire, close_fds=False, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        browser.kill()
        browser.wait()
