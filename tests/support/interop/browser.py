"""Chromium as a peer: one headless browser for all tests, driven by its DevTools protocol.

The protocol goes through a pipe, not a socket: Chromium ends when the pipe is closed, which the
death of the tests' process does as well.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..certificates import certificate
from ..deadlines import time_limit
from ..runners import Runner
from . import Closed, Peer, missing

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)

# Chromium reads orders from the descriptor 3 and writes to 4, messages that end in a zero byte.
_PIPES = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh"]

# What a page does: see __init__.py. A browser neither fragments nor pings by itself.
_SCRIPT = """
function connectPeer(id, url, protocols, binaryType) {
  const ws = new WebSocket(url, protocols);
  ws.binaryType = binaryType;
  const report = what => tell(JSON.stringify({id, ...what}));
  ws.onmessage = ({data}) => {
    if (typeof data !== "string" || !data.startsWith("please ")) {
      const kind = data.constructor.name;
      if (kind !== "String") report({kind});
      ws.send(data);
      return;
    }
    const [, what, code, ...reason] = data.split(" ");
    if (what === "close") {
      try { ws.close(Number(code), reason.join(" ")); }
      catch (error) { ws.send(error.name); }
    } else ws.send(JSON.stringify({protocol: ws.protocol || null, deflate: ws.extensions !== "",
                                   extensions: ws.extensions}));
  };
  ws.onerror = () => report({error: true});
  ws.onclose = ({code, reason, wasClean}) => report({closed: [code, reason], wasClean});
}
"""


class Browser:
    """A browser without a window, and a page in it."""

    def __init__(self, directory: Path) -> None:
        """Start it.

        Args:
            directory: its own, for its profile; removed when it stops.
        """
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        if program is None:
            missing("there is no Chromium")
        self._directory = directory
        self._process = subprocess.Popen(
            [
                *_PIPES,
                program,
                *_FLAGS,
                f"--user-data-dir={directory}",
                f"--ignore-certificate-errors-spki-list={_key_hash()}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._reports = self._process.stdin, self._process.stdout
        self._numbers = itertools.count(1)
        self._answered = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._reader = threading.Thread(target=self._read, name="chromium", daemon=True)
        self._reader.start()

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Have something called, in a thread, with every event that it tells."""
        self._listeners.append(listener)

    def order(self, method: str, session: str | None = None, **parameters: Any) -> int:
        """Send a command without waiting for its answer; returns its number."""
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters}
        whole = json.dumps({**order, "sessionId": session} if session else order)
        self._orders.write(whole.encode() + b"\0")
        self._orders.flush()
        return number

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send a command and wait for its answer; the test's loop stands still meanwhile."""
        number = self.order(method, session, **parameters)
        with self._answered:
            arrived = self._answered.wait_for(lambda: number in self._answers, time_limit(30))
            assert arrived, f"Chromium does not answer {method}"
            answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer["result"]

    def page(self, url: str = "about:blank") -> str:
        """Open a page; returns its session."""
        target = self.ask("Target.createTarget", url=url)["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        session: str = attached["sessionId"]
        self.ask("Runtime.enable", session)
        return session

    def run(self, session: str, source: str) -> Any:
        """Run JavaScript in a page; returns the value."""
        answer = self.ask("Runtime.evaluate", session, expression=source, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def stop(self) -> None:
        """End it."""
        self._orders.close()
        try:
            self._process.wait(time_limit(10))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(time_limit(10))
        self._reports.close()
        # What it started may still write there for a moment.
        shutil.rmtree(self._directory, ignore_errors=True)

    def _read(self) -> None:
        rest = b""
        while more := self._reports.read1():  # type: ignore[attr-defined]
            *messages, rest = (rest + more).split(b"\0")
            for message in messages:
                self._hear(json.loads(message))

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._answered:
                self._answers[message["id"]] = message
                self._answered.notify_all()
            return
        for listener in list(self._listeners):
            listener(message)


class BrowserPage:
    """The page in which the peers of all tests are."""

    def __init__(self, directory: Path) -> None:
        self.browser = Browser(directory)
        self._session = self.browser.page()
        self._peers: dict[int, BrowserPeer] = {}
        self._numbers = itertools.count()
        self.browser.ask("Runtime.addBinding", self._session, name="tell")
        self.browser.run(self._session, _SCRIPT)
        self.browser.listen(self._hear)

    def connect(self, peer: BrowserPeer, *arguments: Any) -> None:
        """Have the page connect."""
        number = next(self._numbers)
        self._peers[number] = peer
        given = ", ".join(json.dumps(each) for each in (number, *arguments))
        self.browser.order("Runtime.evaluate", self._session, expression=f"connectPeer({given})")

    def stop(self) -> None:
        """End the browser."""
        self.browser.stop()

    def _hear(self, event: dict[str, Any]) -> None:
        if event["method"] == "Runtime.bindingCalled":
            report = json.loads(event["params"]["payload"])
            self._peers[report.pop("id")].hear(report)


class BrowserPeer(Peer):
    """A WebSocket of JavaScript.

    Attributes:
        reports: what the page told.
    """

    def __init__(self, page: BrowserPage, runner: Runner) -> None:
        super().__init__(runner)
        self._page = page
        self.reports: list[dict[str, Any]] = []

    def serve(self, **options: Any) -> str:
        raise NotImplementedError("a browser is a client")

    def connect(self, url: str, **options: Any) -> None:
        protocol = options["protocol"]
        kind = options.get("binary_type", "arraybuffer")
        self._page.connect(self, url, [protocol] if protocol else [], kind)

    def hear(self, report: dict[str, Any]) -> None:
        """Take a report of the page."""
        if "closed" in report:
            self.closed = Closed(*report["closed"])
        self.reports.append(report)
        self.wake()


def _key_hash() -> str:
    """Return the key of the tests' certificate the way Chromium takes it for one to trust."""
    key = x509.load_pem_x509_certificate(certificate().cert).public_key()
    plain = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(plain).digest()).decode()
