"""Resident memory for each open connection: `python bench/memory.py [--connections 10000]`.

VmRSS of the server with all connections open and one message echoed on each, less VmRSS before,
divided by the number of connections.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import (
    COMPRESSING,
    PEERS,
    RESULTS,
    BenchError,
    Cores,
    Peer,
    choose_cores,
    choose_peers,
    describe,
    environment,
    raise_descriptor_limit,
    running,
    say,
    table,
)
from holding import SETTLE_SECONDS, holding, load_options
from programs import make_certificate


@dataclass(frozen=True)
class Kind:
    """What the connections are."""

    size: int
    tls: bool
    deflate: bool

    def label(self) -> str:
        """For below the table."""
        parts = ["TLS 1.3" if self.tls else "Plain TCP"]
        if self.deflate:
            parts.append("permessage-deflate")
        return " with ".join(parts)

    def settings(self) -> list[str]:
        """What the server is told."""
        settings = make_certificate().options() if self.tls else []
        return [*settings, "--deflate"] if self.deflate else settings

    def options(self) -> Sequence[str]:
        """What the load generator is told."""
        certificate = str(make_certificate().certificate) if self.tls else None
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


def measure(cores: Cores, peer: Peer, connections: int, kind: Kind) -> Result:
    """Run one server, fresh, and fill it with connections."""
    with running(peer, cores.server, *kind.settings()) as server:
        # One connection first: what is imported or allocated once is not a connection's.
        with holding(cores.client, server, 1, *kind.options()):
            pass
        time.sleep(SETTLE_SECONDS)
        before = server.resident_kib()
        with holding(cores.client, server, connections, *kind.options()) as held:
            after = server.resident_kib()
    return Result(
        peer=peer.name,
        connections=connections,
        before_kib=before,
        after_kib=after,
        kib_per_connection=(after - before) / connections,
        open_seconds=held["open_seconds"],
        served_seconds=held["served_seconds"],
    )


def markdown(results: Sequence[Result], kind: Kind, where: dict[str, Any]) -> str:
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
        f"{kind.label()}, idle after one message of {kind.size} bytes each way.\n\n"
        f"{describe(where)}\n"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--size", type=int, help="bytes of the message; 64, 1024 with --deflate")
    parser.add_argument("--tls", action="store_true", help="TLS 1.3")
    parser.add_argument("--deflate", action="store_true", help="permessage-deflate")
    parser.add_argument(
        "--server", "--servers", dest="servers", nargs="+", metavar="NAME", help=", ".join(PEERS)
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "memory.json")
    options = parser.parse_args(arguments)
    if options.size is None:
        options.size = 1024 if options.deflate else 64
    if options.connections < 1:
        parser.error("--connections must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    options = parse(arguments)
    raise_descriptor_limit()
    try:
        peers = choose_peers(options.servers)
        if options.deflate:
            peers = [peer for peer in peers if peer.name in COMPRESSING]
    except BenchError as error:
        say(f"error: {error}")
        return 1
    kind = Kind(options.size, options.tls, options.deflate)
    where = environment()
    cores = choose_cores()
    results: list[Result] = []
    failures: list[str] = []
    for peer in peers:
        say(f"{peer.name}: opening {options.connections} connections")
        try:
            results.append(measure(cores, peer, options.connections, kind))
        except BenchError as error:
            failures.append(f"{peer.name}: {error}")
            say(f"failed: {failures[-1]}")

    print(markdown(results, kind, where))
    report = {
        "environment": where,
        "kind": asdict(kind),
        "results": [asdict(r) for r in results],
        "failures": failures,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
