"""Resident memory for each open connection: `python bench/memory.py [--connections 10000]`.

VmRSS of the server with all connections open and one message echoed on each, less VmRSS before,
divided by the number of connections.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import (
    PEERS,
    RESULTS,
    BenchError,
    Cores,
    Peer,
    Server,
    build_loadgen,
    choose_cores,
    choose_peers,
    describe,
    environment,
    raise_descriptor_limit,
    running,
    say,
    table,
)

# Time for the server to end what the last echo began.
SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Holding:
    """Connections held open: what was seen, memory in KiB."""

    resident: int
    open_seconds: float
    served_seconds: float


@dataclass(frozen=True)
class Result:
    """One server's figures."""

    peer: str
    connections: int
    before_kib: int
    after_kib: int
    kib_per_connection: float
    open_seconds: float
    served_seconds: float


def hold(loadgen: Path, cpu: int, server: Server, connections: int, size: int) -> Holding:
    """Open connections, have one message echoed on each, look at the server, let go.

    Raises:
        BenchError: If any connection was not served, or did not last.
    """
    command = [
        str(loadgen),
        "--mode=connections",
        f"--port={server.port}",
        f"--connections={connections}",
        f"--size={size}",
        f"--cpu={cpu}",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        resident = 0
        if line:
            time.sleep(SETTLE_SECONDS)
            resident = server.resident_kib()
        process.stdin.close()
        complaint = process.stderr.read().strip()
        status = process.wait()
    if status != 0 or not line:
        raise BenchError(complaint or f"loadgen ended with {status}")
    got: dict[str, Any] = json.loads(line)
    if got["open"] != connections or got["echoed"] != connections:
        raise BenchError(f"only {got['echoed']} of {connections} connections were served")
    return Holding(resident, got["open_seconds"], got["served_seconds"])


def measure(loadgen: Path, cores: Cores, peer: Peer, connections: int, size: int) -> Result:
    """Run one server, fresh, and fill it with connections."""
    with running(peer, cores.server) as server:
        # One connection first: what is imported or allocated once is not a connection's.
        hold(loadgen, cores.client, server, 1, size)
        time.sleep(SETTLE_SECONDS)
        before = server.resident_kib()
        held = hold(loadgen, cores.client, server, connections, size)
    return Result(
        peer=peer.name,
        connections=connections,
        before_kib=before,
        after_kib=held.resident,
        kib_per_connection=(held.resident - before) / connections,
        open_seconds=held.open_seconds,
        served_seconds=held.served_seconds,
    )


def markdown(results: Sequence[Result], size: int, where: dict[str, Any]) -> str:
    """The whole report."""
    headings = ["server", "connections", "KiB each", "before, MiB", "after, MiB", "all served in s"]
    lines = [
        [
            r.peer,
            f"{r.connections:,}",
            f"{r.kib_per_connection:.1f}",
            f"{r.before_kib / 1024:.1f}",
            f"{r.after_kib / 1024:.1f}",
            f"{r.served_seconds:.2f}",
        ]
        for r in results
    ]
    return (
        f"{table(headings, lines)}\n\n"
        f"Plain TCP, idle after one message of {size} bytes each way.\n\n{describe(where)}\n"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--size", type=int, default=64, help="bytes of the message; 64")
    parser.add_argument(
        "--server", "--servers", dest="servers", nargs="+", metavar="NAME", help=", ".join(PEERS)
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "memory.json")
    options = parser.parse_args(arguments)
    if options.connections < 1:
        parser.error("--connections must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    options = parse(arguments)
    raise_descriptor_limit()
    try:
        peers = choose_peers(options.servers)
        loadgen = build_loadgen()
    except BenchError as error:
        say(f"error: {error}")
        return 1
    where = environment()
    cores = choose_cores()
    results: list[Result] = []
    failures: list[str] = []
    for peer in peers:
        say(f"{peer.name}: opening {options.connections} connections")
        try:
            results.append(measure(loadgen, cores, peer, options.connections, options.size))
        except BenchError as error:
            failures.append(f"{peer.name}: {error}")
            say(f"failed: {failures[-1]}")

    print(markdown(results, options.size, where))
    report = {
        "environment": where,
        "size": options.size,
        "results": [asdict(r) for r in results],
        "failures": failures,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
