"""Holds connections open, so that the server can be looked at."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness import BenchError, Server
from programs import build

# Time for the server to end what the last echo began.
SETTLE_SECONDS = 0.5


@contextlib.contextmanager
def holding(cpu: int, server: Server, connections: int, *options: str) -> Iterator[dict[str, Any]]:
    """Open connections, have one message echoed on each, and let go in the end.

    Args:
        cpu: The load generator's.
        server: What to connect to.
        connections: How many.
        options: What else the load generator is told.

    Yields:
        What the load generator printed.

    Raises:
        BenchError: If any connection was not served, or did not last.
    """
    command = [
        str(build("loadgen")),
        "--mode=connections",
        f"--port={server.port}",
        f"--connections={connections}",
        f"--cpu={cpu}",
        *options,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _served(process, connections)
        finally:
            complaint, status = _let_go(process)
        if status != 0:
            raise BenchError(complaint or f"loadgen ended with {status}")


def _served(process: subprocess.Popen[str], connections: int) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        complaint, status = _let_go(process)
        raise BenchError(complaint or f"loadgen ended with {status}")
    got: dict[str, Any] = json.loads(line)
    if got["open"] != connections or got["echoed"] != connections:
        raise BenchError(f"only {got['echoed']} of {connections} connections were served")
    time.sleep(SETTLE_SECONDS)
    return got


def _let_go(process: subprocess.Popen[str]) -> tuple[str, int]:
    assert process.stdin is not None
    assert process.stderr is not None
    if process.stdin.closed:
        return "", process.wait()
    process.stdin.close()
    complaint = process.stderr.read().strip()
    return complaint, process.wait()


def load_options(certificate: str | None, *, deflate: bool, size: int) -> Sequence[str]:
    """What the load generator is told of the kind of connection."""
    options = [f"--size={size}"]
    if certificate is not None:
        options.append(f"--tls={certificate}")
    if deflate:
        options.append("--deflate")
    return options
