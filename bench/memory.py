"""Survey: resident memory of the server for each open connection.

VmRSS of the server with all connections open and one message echoed on each, less VmRSS before,
divided by the number of connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness import COMPRESSING, IN_MOST_ROWS, Peer, running, table
from holding import SETTLE_SECONDS, holding, load_options
from measuring import Bench, Survey

CONNECTIONS = 10000


@dataclass(frozen=True)
class Kind:
    """What the connections are."""

    name: str
    label: str
    peers: Sequence[str] = IN_MOST_ROWS
    size: int = 64
    tls: bool = False
    deflate: bool = False

    def settings(self, bench: Bench) -> list[str]:
        """What the server is told."""
        settings = bench.certificate.options() if self.tls else []
        return [*settings, "--deflate"] if self.deflate else settings

    def options(self, bench: Bench) -> Sequence[str]:
        """What the load generator is told."""
        certificate = str(bench.certificate.certificate) if self.tls else None
        return load_options(certificate, deflate=self.deflate, size=self.size)


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

    def line(self) -> list[str]:
        """For the table."""
        return [
            self.peer,
            f"{self.connections:,}",
            f"{self.kib_per_connection:.1f}",
            f"{self.before_kib / 1024:.1f}",
            f"{self.after_kib / 1024:.1f}",
            f"{self.served_seconds:.2f}",
        ]


def measure(bench: Bench, peer: Peer, kind: Kind) -> Result:
    """Run one server, fresh, and fill it with connections."""
    cpu = bench.cores.client
    options = kind.options(bench)
    with running(peer, bench.cores.server, *kind.settings(bench)) as server:
        # One connection first: what is imported or allocated once is not a connection's.
        with holding(cpu, server, 1, *options):
            pass
        time.sleep(SETTLE_SECONDS)
        before = server.resident_kib()
        with holding(cpu, server, CONNECTIONS, *options) as held:
            after = server.resident_kib()
    return Result(
        peer=peer.name,
        connections=CONNECTIONS,
        before_kib=before,
        after_kib=after,
        kib_per_connection=(after - before) / CONNECTIONS,
        open_seconds=held["open_seconds"],
        served_seconds=held["served_seconds"],
    )


def looking_at(kind: Kind) -> Callable[[Bench, Peer], list[dict[str, Any]]]:
    """See `Survey.measure`."""
    return lambda bench, peer: [asdict(measure(bench, peer, kind))]


def table_of(kind: Kind) -> Callable[[Sequence[dict[str, Any]]], str]:
    """See `Survey.markdown`."""
    headings = ["peer", "connections", "KiB each", "before, MiB", "after, MiB", "all served in s"]

    def markdown(found: Sequence[dict[str, Any]]) -> str:
        lines = [Result(**each).line() for each in found]
        title = f"### Memory: {kind.label}, idle after one message of {kind.size} bytes each way"
        return f"{title}\n\n{table(headings, lines)}\n"

    return markdown


KINDS = (
    Kind("memory", "plain TCP"),
    Kind("memory-tls", "TLS 1.3", tls=True),
    Kind(
        "memory-deflate",
        "plain TCP with permessage-deflate",
        peers=COMPRESSING,
        size=1024,
        deflate=True,
    ),
)
SURVEYS = [Survey(kind.name, kind.peers, looking_at(kind), table_of(kind)) for kind in KINDS]
