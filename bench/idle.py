"""An idle server: how often it wakes up, and the CPU time that it takes meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import BenchError, Peer, Server, running, say, table
from holding import SETTLE_SECONDS, holding
from measuring import Bench

CONNECTIONS = (0, 1000)
# Long enough for a timer that goes off every second or two to show.
WATCHED_SECONDS = 3.0


@dataclass(frozen=True)
class Idle:
    """One server with so many connections, none of which does anything."""

    peer: str
    connections: int
    seconds: float
    wake_ups: int
    cpu_us: float

    def line(self) -> list[str]:
        """For the table."""
        return [
            self.peer,
            f"{self.connections:,}",
            f"{self.wake_ups}",
            f"{self.wake_ups / self.seconds:.1f}",
            f"{self.cpu_us:,.0f}",
        ]


def activity(server: Server) -> tuple[int, float]:
    """How often its threads have gone to sleep so far, and their CPU time in microseconds.

    A process that waits in epoll_wait goes to sleep once for each time that it wakes up.
    """
    switches = 0
    cpu_ns = 0
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                switches += int(line.split()[1])
        cpu_ns += int((task / "schedstat").read_text().split()[0])
    return switches, cpu_ns / 1e3


def watch(peer: Peer, server: Server, connections: int) -> Idle:
    """Look at it twice, and at nothing in between."""
    start = time.monotonic()
    before = activity(server)
    time.sleep(WATCHED_SECONDS)
    after = activity(server)
    seconds = time.monotonic() - start
    return Idle(peer.name, connections, seconds, after[0] - before[0], after[1] - before[1])


def measure(bench: Bench, peer: Peer, connections: int) -> Idle:
    """Run one server, fresh."""
    with running(peer, bench.cores.server) as server:
        if connections == 0:
            time.sleep(SETTLE_SECONDS)
            return watch(peer, server, connections)
        with holding(bench.cores.client, server, connections):
            return watch(peer, server, connections)


def run(bench: Bench, peers: Sequence[Peer]) -> tuple[list[Idle], list[str]]:
    """Measure all.

    Returns:
        The results, and what went wrong.
    """
    results: list[Idle] = []
    failures: list[str] = []
    for connections, peer in itertools.product(CONNECTIONS, peers):
        say(f"idle, {connections} connections: {peer.name}")
        try:
            results.append(measure(bench, peer, connections))
        except BenchError as error:
            failures.append(f"{peer.name}, idle with {connections} connections: {error}")
    return results, failures


def markdown(results: Sequence[Idle]) -> str:
    """The table, its heading on top."""
    headings = ["peer", "connections", "wake-ups", "wake-ups/s", "CPU µs"]
    return f"### Idle for {WATCHED_SECONDS:g} s\n\n{table(headings, [r.line() for r in results])}\n"
