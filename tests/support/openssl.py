"""Peers that speak TLS and nothing else: `openssl s_client` and `openssl s_server`."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from .deadlines import time_limit
from .peers import ClientThread
from .runners import Runner

OLD = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
"""Every cipher that this OpenSSL has, however weak, and every signature."""


def s_client(runner: Runner, listener: Any, *arguments: str, said: str = "Q\n") -> str:
    """Run `openssl s_client` against a listener; returns all that it printed.

    Args:
        arguments: more of its own.
        said: what is typed into it.
    """
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.port}", *arguments]

    async def work() -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate(said.encode())
        return output.decode("latin-1")

    client = ClientThread(work, runner.wake)
    runner.add_peer(client)
    runner.run(client.done, timeout=20)
    output: str = client.result()
    return output


class OpenSSLServer:
    """`openssl s_server` on a port that the system chooses.

    Attributes:
        port: where it listens.
        lines: what it printed so far.
    """

    def __init__(self, runner: Runner, directory: Path, *arguments: str, **files: bytes) -> None:
        """Start it.

        Args:
            directory: where the files go.
            arguments: its own.
            files: what else it is given: `cert=` becomes `-cert FILE`.
        """
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", *arguments]
        for name, content in files.items():
            path = directory / f"{name}.pem"
            path.write_bytes(content)
            command += [f"-{name}", str(path)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.port = 0
        self._ready = threading.Event()
        self._wake = runner.wake
        self._reader = threading.Thread(target=self._read, name="s_server's output", daemon=True)
        self._reader.start()
        runner.add_peer(self)
        assert self._ready.wait(time_limit(10)), "s_server does not start"
        assert self.port, self.lines

    def type(self, text: str) -> None:
        """Type something into it."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def printed(self, text: str) -> bool:
        """Tell whether a line has this in it."""
        return any(text in line for line in self.lines)

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
            found = re.match(r"ACCEPT .*:(\d+)$", line)
            if found:
                self.port = int(found[1])
                self._ready.set()
            self._wake()
        self._ready.set()
