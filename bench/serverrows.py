"""Rows: what a server does besides echoing: many connections, opening them, broadcasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness import Peer, running
from measuring import Bench, Measured, Row, measured_by, run_loadgen
from programs import FLOOR

OPENED = 10000
LISTENERS = 1000
# Connections for each number of messages in flight in all. Every message goes to the next one.
# With more in flight than connections several would come in one read: an advantage, but not that
# of few connections.
SCALES = {1: (1, 10, 100, 1000, 10000), 64: (100, 1000, 10000)}


def scale(connections: int, in_flight: int) -> Callable[[Bench, Peer], Measured]:
    """So many messages are always under way; see `Row.measure`."""

    def measure(bench: Bench, peer: Peer) -> Measured:
        options = [f"--connections={connections}", f"--in-flight={in_flight}"]
        with running(peer, bench.cores.server) as server:
            return measured_by(run_loadgen(bench, server, "--mode=rotate", *options))

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


def broadcast(in_flight: int) -> Callable[[Bench, Peer], Measured]:
    """Each message goes to all; the next once all have one. See `Row.measure`."""

    def measure(bench: Bench, peer: Peer) -> Measured:
        options = [f"--connections={LISTENERS}", f"--in-flight={in_flight}"]
        options.append(f"--{bench.plan.opcode}")
        with running(peer, bench.cores.server, "--broadcast") as server:
            got = measured_by(run_loadgen(bench, server, "--mode=broadcast", *options))
        return replace(
            got,
            per_second=got.per_second / LISTENERS,
            cpu_us=got.cpu_us * LISTENERS,
            bytes_per_second=None,
        )

    return measure


def _scale_rows(in_flight: int) -> list[Row]:
    table = f"Echo of 64 B, {in_flight} in flight in all, connections taking turns"
    prefix = "scale" if in_flight == 1 else "scale-busy"
    return [
        Row(
            f"{prefix}-{n}", table, f"{n:,} connections", "echoes", scale(n, in_flight), floor=FLOOR
        )
        for n in SCALES[in_flight]
    ]


SCALE_ROWS = [_scale_rows(in_flight) for in_flight in SCALES]
OPENING_ROWS = [
    Row(name, "Opening connections", label, "connections", opening(tls=tls), floor=floor)
    for name, label, tls, floor in (
        ("opening", f"{OPENED:,} connections", False, FLOOR),
        ("tls-opening", f"{OPENED:,} connections, TLS 1.3", True, None),
    )
]
BROADCAST_ROWS = [
    Row(
        name,
        "Broadcast",
        f"64 B to {LISTENERS:,} connections, {n} in flight",
        "broadcasts",
        made,
        floor=FLOOR,
    )
    for name, n, made in (
        ("broadcast", 1, broadcast(1)),
        ("broadcast-8", 8, broadcast(8)),
    )
]
ROWS = [*(row for rows in SCALE_ROWS for row in rows), *OPENING_ROWS, *BROADCAST_ROWS]
