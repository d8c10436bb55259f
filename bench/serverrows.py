"""Rows: what a server does besides echoing: many connections, opening them, broadcasts."""

from __future__ import annotations

from collections.abc import Callable

from harness import Peer, running
from measuring import Bench, Measured, Row, measured_by, run_loadgen

SCALE_CONNECTIONS = (1, 10, 100, 1000, 10000)
OPENED = 10000
LISTENERS = 1000
SCALE_TABLE = "Echo of 64 B, one message in flight in all, connections taking turns"


def scale(connections: int) -> Callable[[Bench, Peer], Measured]:
    """One message is always under way, each time on the next connection; see `Row.measure`.

    With more in flight, few connections would be at an advantage that is none of their number's:
    several messages would come in one read.
    """

    def measure(bench: Bench, peer: Peer) -> Measured:
        options = ["--mode=rotate", f"--connections={connections}"]
        with running(peer, bench.cores.server) as server:
            return measured_by(run_loadgen(bench, server, *options))

    return measure


def opening(*, tls: bool) -> Callable[[Bench, Peer], Measured]:
    """Connections are opened, up to 64 at a time; see `Row.measure`."""

    def measure(bench: Bench, peer: Peer) -> Measured:
        options = ["--mode=open", f"--connections={OPENED}"]
        settings = []
        if tls:
            options.append(f"--tls={bench.certificate.certificate}")
            settings = bench.certificate.options()
        with running(peer, bench.cores.server, *settings) as server:
            got = run_loadgen(bench, server, *options)
        return Measured(
            per_second=got["open"] / got["seconds"],
            cpu_us=got["server_cpu_seconds"] / got["open"] * 1e6,
            busy=got["server_cpu_seconds"] / got["seconds"],
            other_busy=got["client_cpu_seconds"] / got["seconds"],
        )

    return measure


def broadcast(bench: Bench, peer: Peer) -> Measured:
    """One message to all; the next once all have it. See `Row.measure`."""
    options = ["--mode=broadcast", f"--connections={LISTENERS}", f"--{bench.plan.opcode}"]
    with running(peer, bench.cores.server, "--broadcast") as server:
        got = measured_by(run_loadgen(bench, server, *options))
    return Measured(
        per_second=got.per_second / LISTENERS,
        cpu_us=got.cpu_us * LISTENERS,
        busy=got.busy,
        other_busy=got.other_busy,
        p50_us=got.p50_us,
        p99_us=got.p99_us,
    )


SCALE_ROWS = [
    Row(f"scale-{n}", SCALE_TABLE, f"{n:,} connections", "echoes", scale(n))
    for n in SCALE_CONNECTIONS
]
ROWS = [
    *SCALE_ROWS,
    *(
        Row(name, "Opening connections", label, "connections", opening(tls=tls))
        for name, label, tls in (
            ("opening", f"{OPENED:,} connections", False),
            ("tls-opening", f"{OPENED:,} connections, TLS 1.3", True),
        )
    ),
    Row(
        "broadcast",
        "Broadcast",
        f"64 B to {LISTENERS:,} connections, until all have it",
        "broadcasts",
        broadcast,
    ),
]
