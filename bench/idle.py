"""An idle server: how often it wakes up, and the CPU time that it takes meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import IN_MOST_ROWS, Peer, Server, running, table
from holding import SETTLE_SECONDS, holding
from measuring import Bench, Survey

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


def look(bench: Bench, peer: Peer) -> list[dict[str, Any]]:
    """See `Survey.measure`."""
    return [asdict(measure(bench, peer, connections)) for connections in CONNECTIONS]


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """See `Survey.markdown`."""
    headings = ["peer", "connections", "wake-ups", "wake-ups/s", "CPU µs"]
    results = sorted((Idle(**each) for each in found), key=lambda idle: idle.connections)
    return f"### Idle for {WATCHED_SECONDS:g} s\n\n{table(headings, [r.line() for r in results])}\n"


SURVEYS = [Survey("idle", IN_MOST_ROWS, look, markdown)]
