"""A real browser, driven as a person would: Chromium, by its own protocol over a pipe.

https://chromedevtools.github.io/devtools-protocol/; the little that the tests need of it, without
the 50 MB of a library for it. The browser ends when its pipe does, and so with us.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.process.environment import clean_environment
from tests.servers.server import ServerMissing
from tests.timing import PATIENCE_SECONDS

# Keys that are no characters: the code that the browser knows them by.
KEYS = {
    "Enter": 13,
    "Tab": 9,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Failed(Exception):
    """The browser did not do as told."""


class Browser:
    """A browser that runs; each page has cookies of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        binary = shutil.which("chromium")
        if binary is None:
            raise ServerMissing("no chromium here: install the system's package")
        # Chromium reads commands from descriptor 3 and answers on 4.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        low = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)

        def connect() -> None:
            os.dup2(low[0], 3)
            os.dup2(low[1], 4)

        self._process = subprocess.Popen(
            [
                *(binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"),
                *(
                    "--no-proxy-server",
                    f"--user-data-dir={folder / 'profile'}",
                    "--hide-scrollbars",
                ),
                *("--disable-component-update", "--remote-debugging-pipe", *flags, "about:blank"),
            ],
            env=clean_environment({"HOME": str(folder)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=connect,  # noqa: PLW1509 - no library gives descriptors these numbers
        )
        for one in low:
            os.close(one)
        self._number = 0
        self._received = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its result.

        Raises:
            Failed: it cannot be done.
        """
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                if "error" in message:
                    raise Failed(f"{method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            data = os.read(self._in, 1 << 20)
            if not data:
                raise Failed("the browser has ended")
            self._received += data
        line, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def page(
        self,
        width: int = 1440,
        height: int = 900,
        *,
        script: bool = True,
        dark: bool = False,
        language: str = "en",
    ) -> "Page":
        """Open a page with nothing on it."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, session["sessionId"], target["targetId"])
        page.call("Page.enable")
        page.call("Runtime.enable")
        page.call("Log.enable")
        page.resize(width, height)
        agent = self.call("Browser.getVersion")["userAgent"]
        page.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        if not script:
            page.call("Emulation.setScriptExecutionDisabled", value=True)
        return page

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)
        os.close(self._in)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()


class Page:
    """A page, and what a person does with it."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give the page a command and return its result."""
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Look at the page through a window of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def go(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        found = self.call("Page.navigate", url=url)
        if "errorText" in found:
            raise Failed(f"{url}: {found['errorText']}")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return what an expression says in the page."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise Failed(details.get("exception", {}).get("description", details["text"]))
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until an expression is true in the page, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := self.evaluate(expression):
                    return found
            except Failed:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise Failed(f"it did not come about: {expression}; the page: {self.text[:2000]}")
            time.sleep(0.03)

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return str(self.evaluate("document.body.innerText"))

    @property
    def path(self) -> str:
        """The path of the page's address."""
        return str(self.evaluate("location.pathname"))

    def sees(self, text: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a text can be read."""
        self.until(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        spot = self.until(
            f"""(() => {{
                const e = document.querySelector({json.dumps(selector)});
                if (!e) return null;
                e.scrollIntoView({{block: "center", inline: "center", behavior: "instant"}});
                const r = e.getBoundingClientRect();
                return [r.x + r.width / 2, r.y + r.height / 2];
            }})()"""
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=spot[0],
                y=spot[1],
                button="none" if kind == "mouseMoved" else "left",
                clickCount=1,
            )

    def focus(self, selector: str) -> None:
        """Give an element the focus."""
        self.until(f"(document.querySelector({json.dumps(selector)})?.focus(), true)")

    def fill(self, selector: str, text: str) -> None:
        """Write a text into a field in place of what stands there; a day or a time as it is."""
        self.until(
            f"""(() => {{
                const e = document.querySelector({json.dumps(selector)});
                if (!e) return false;
                e.focus();
                if (["date", "time"].includes(e.type)) e.value = {json.dumps(text)};
                else e.select();
                return true;
            }})()"""
        )
        if self.evaluate(f"!['date', 'time'].includes(document.querySelector('{selector}').type)"):
            self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = KEYS.get(key, ord(key[0].upper()))
        named = {"key": key, "windowsVirtualKeyCode": code}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Keep what the page looks like."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """Return what the browser has complained of so far: errors, and what the policy forbade.

        That a form was refused is no complaint.
        """
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            told = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"].get("exception", told)))
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
                if told["entry"]["text"].endswith("(Conflict)"):
                    continue
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            elif event["method"] == "Page.javascriptDialogOpening":
                found.append(f"dialog: {told['message']}")
        return found

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextlib.contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[Browser]:
    """Run a browser, and leave nothing of it behind."""
    browser = Browser(folder, *flags)
    try:
        yield browser
    finally:
        browser.close()
