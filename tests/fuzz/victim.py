"""The process that is attacked: a server, or a client that connects to where it is told.

    python -m fuzz.victim SETTINGS

It is told what to do line by line, and answers with lines, all of them JSON.
"""

from __future__ import annotations

import collections
import gc
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import uvws
from soak.process import new_descriptors, open_descriptors, tell
from support.deadlines import time_limit
from support.patches import is_patched
from support.runners import make_runner

MESSAGE_MAX = 1 << 20
# What is still there after that is not going to go.
PATIENCE = 20.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Ledger:
    """What a user may rely on: callbacks in their order, each as often as it should be.

    An AssertionError is reported by the loop, as the exceptions of users are.
    """

    def __init__(self) -> None:
        self.live = 0

    def connect(self, connection: uvws.Connection, _headers: object) -> None:
        """A connection is open."""
        assert "open" not in connection.stash, "on_connect came twice"
        connection.stash["open"] = True
        self.live += 1

    def message(self, connection: uvws.Connection, data: str | bytes) -> None:
        """A message came; it is sent back."""
        assert connection.stash["open"], "on_message after on_close"
        assert isinstance(data, (str, bytes)), type(data)
        assert len(data) <= MESSAGE_MAX
        connection.send(data)

    def close(self, connection: uvws.Connection, code: int, reason: str) -> None:
        """A connection has ended."""
        assert connection.stash["open"], "on_close came twice"
        assert 1000 <= code <= 4999, code
        assert len(reason.encode()) <= 123, reason
        connection.stash["open"] = False
        self.live -= 1

    def error(self, connection: uvws.Connection, error: Exception) -> None:
        """Something failed."""
        assert isinstance(error, (uvws.Error, OSError)), repr(error)

    def pong(self, connection: uvws.Connection, payload: bytes) -> None:
        """A Pong came."""
        assert connection.stash["open"], "on_pong after on_close"
        assert len(payload) <= 125

    def callbacks(self) -> dict[str, Any]:
        """Return them, for listen and connect."""
        names = ("connect", "message", "close", "error", "pong")
        return {f"on_{name}": getattr(self, name) for name in names}


class ClientLedger(Ledger):
    """The same for connections of our own, of which those that fail are counted as well."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = 0
        self.good: list[tuple[str, object]] = []

    def connect(self, connection: uvws.Connection, headers: object) -> None:
        """Say something first."""
        super().connect(connection, headers)
        self.pending -= 1
        connection.send("hello")
        connection.send_ping(b"ping")
        connection.send(bytes(300))

    def message(self, connection: uvws.Connection, data: str | bytes) -> None:
        """Send it back, or close at some of them."""
        if len(data) % 5 == 4:
            connection.close(3001, "enough")
        else:
            super().message(connection, data)

    def error(self, connection: uvws.Connection, error: Exception) -> None:
        """Also where there never was a connection."""
        super().error(connection, error)
        if "open" not in connection.stash:
            connection.stash["open"] = False
            self.pending -= 1


class Victim:
    """A loop with a context, and what it is told."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._runner = make_runner(settings["kind"])
        self._commands: collections.deque[dict[str, Any]] = collections.deque()
        authority = settings["authority"].encode()
        self._context = self._runner.context(ssl_ca=authority, proxy="")
        self._ledger = ClientLedger() if settings["role"] == "client" else Ledger()
        self._compression = "deflate" if is_patched() else None
        self._before: dict[str, str] | None = None
        ports = self._listen(settings) if settings["role"] == "server" else ()
        threading.Thread(target=self._read, daemon=True).start()
        tell(ports=ports, pid=os.getpid())

    def _read(self) -> None:
        for line in sys.stdin:
            self._commands.append(json.loads(line))
            self._runner.wake()
        self._commands.append({"do": "stop"})
        self._runner.wake()

    def _listen(self, settings: dict[str, Any]) -> tuple[int, ...]:
        secure = {name: settings[name].encode() for name in ("ssl_cert", "ssl_key")}
        return tuple(
            self._context.listen(
                host="127.0.0.1",
                max_message_size=MESSAGE_MAX,
                compression=self._compression,
                protocol="b",
                on_handshake=lambda headers: {"X-Path": str(len(headers["Path"]))},
                on_request=lambda request: uvws.Response(200, body=request.path.encode()),
                **options,
                **self._ledger.callbacks(),
            ).port
            for options in ({"name": "plain"}, {"name": "TLS", **secure})
        )

    def work(self) -> None:
        """Do what is told until it is to stop."""
        while True:
            self._runner.run(lambda: self._commands, timeout=3600)
            command = self._commands.popleft()
            if command["do"] == "stop":
                self._runner.finish()
                return
            getattr(self, command.pop("do"))(**command)

    def connect(self, url: str) -> None:
        """Connect, and let come what comes."""
        assert isinstance(self._ledger, ClientLedger)
        self._ledger.pending += 1
        self._context.connect(
            url,
            max_message_size=MESSAGE_MAX,
            compression=self._compression,
            protocol=["a", "b"],
            connect_timeout=time_limit(PATIENCE),
            **self._ledger.callbacks(),
        )

    def _left(self) -> list[str]:
        """Say what is still there of the connections."""
        left = [f"{self._ledger.live} open"] if self._ledger.live else []
        if isinstance(self._ledger, ClientLedger) and self._ledger.pending:
            left.append(f"{self._ledger.pending} connecting")
        if self._context.connections:
            left.append(f"{len(self._context.connections)} in the context")
        return left + (new_descriptors(self._before) if self._before is not None else [])

    def report(self) -> None:
        """Wait until all connections are gone, and say how things are."""
        until = time.monotonic() + time_limit(PATIENCE)
        while self._left() and time.monotonic() < until:
            self._runner.run_for(0.01)
        gc.collect()
        left = self._left()
        if self._before is None:
            self._before = open_descriptors()
        reported = ["".join(traceback.format_exception(each)) for each in self._runner.reported]
        self._runner.reported.clear()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
        tell(left=left, reported=reported, resident=resident)


if __name__ == "__main__":
    Victim(json.loads(sys.argv[1])).work()
