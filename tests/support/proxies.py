"""A real proxy, pproxy, in a process of its own: importing it changes classes of asyncio."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

from .deadlines import time_limit
from .runners import Runner

KNOWN_TO_THE_PROXY = "known-to-the-proxy.test"
"""A name that nobody but the proxy can look up: this host."""

_PROGRAM = f"""
import asyncio, socket, sys
import pproxy

look_up = socket.getaddrinfo
names = dict.fromkeys([{KNOWN_TO_THE_PROXY!r}, *sys.argv[2:]], "127.0.0.1")
socket.getaddrinfo = lambda host, *rest, **more: look_up(names.get(host, host), *rest, **more)

async def main():
    say = lambda line: print(line, flush=True)
    server = await pproxy.Server(sys.argv[1]).start_server(
        # It would remember an address that has once said who it is.
        {{"rserver": [], "verbose": say, "authtime": -1}}
    )
    say(server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


class RealProxy:
    """A proxy that speaks HTTP and SOCKS5 on one port.

    Attributes:
        port: where it listens, on `host`.
        lines: what it says: a line for each connection that it made, and each that it refused.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        credentials: str = "",
        host: str = "127.0.0.1",
        names: tuple[str, ...] = (),
    ) -> None:
        """Start it.

        Args:
            credentials: `user:password` that it wants to hear; none by default.
            host: address that it listens on.
            names: more that it takes for this host.
        """
        self.host = f"[{host}]" if ":" in host else host
        listen = f"http+socks5://{self.host}:0" + (f"#{credentials}" if credentials else "")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, listen, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.lines: list[str] = []
        self._wake = runner.wake
        self._reader = threading.Thread(target=self._read, name="proxy's output", daemon=True)
        self._reader.start()
        runner.add_peer(self)

    def url(self, scheme: str, credentials: str = "") -> str:
        """Return what to give as `proxy=`."""
        at = f"{credentials}@" if credentials else ""
        return f"{scheme}://{at}{self.host}:{self.port}"

    def connected_to(self, target: str, times: int = 1) -> Callable[[], bool]:
        """Return a predicate for Runner.run: it made that many connections to `host:port`.

        It says so a little later than the connection is there.
        """

        def seen() -> bool:
            return sum(line.endswith(f" -> {target}") for line in self.lines) == times

        seen.__qualname__ = f"the proxy made {times} connections to {target}"
        return seen

    def stop(self) -> None:
        """Stop it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(time_limit(10))
        self._reader.join(time_limit(10))
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            self._wake()
