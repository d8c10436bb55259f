"""Rows: echo servers, over plain TCP and TLS, with and without compression."""

from __future__ import annotations

from collections.abc import Callable

from harness import COMPRESSING, Peer, running
from measuring import Bench, Measured, Row, measured_by, run_loadgen
from programs import FLOOR

KIB = 1 << 10
MIB = 1 << 20
# Name: label, bytes, connections, messages in flight on each.
LOADS = {
    "64B-1": ("64 B, 50 connections, 1 in flight", 64, 50, 1),
    "64B-32": ("64 B, 50 connections, 32 in flight", 64, 50, 32),
    "16K": ("16 KiB, 10 connections, 4 in flight", 16 * KIB, 10, 4),
    "64K": ("64 KiB, 10 connections, 4 in flight", 64 * KIB, 10, 4),
    "1M": ("1 MiB, 2 connections, 2 in flight", MIB, 2, 2),
    "16M": ("16 MiB, 2 connections, 2 in flight", 16 * MIB, 2, 2),
}
COMPRESSED_LOADS = {
    "1K": ("JSON of 1 KiB, 20 connections, 4 in flight", KIB, 20, 4),
    "64K": ("JSON of 64 KiB, 10 connections, 4 in flight", 64 * KIB, 10, 4),
}
# The same load with messages of every size, for a plot.
SIZES = {
    "64B": ("64 B", 64),
    "1K": ("1 KiB", KIB),
    "16K": ("16 KiB", 16 * KIB),
    "64K": ("64 KiB", 64 * KIB),
    "256K": ("256 KiB", 256 * KIB),
    "1M": ("1 MiB", MIB),
    "16M": ("16 MiB", 16 * MIB),
}
SIZES_TABLE = "Echo of binary messages, 2 connections, 2 in flight"


def echo(
    size: int,
    connections: int,
    in_flight: int,
    *,
    tls: bool = False,
    deflate: bool = False,
    binary: bool = False,
) -> Callable[[Bench, Peer], Measured]:
    """The measurement of one load; see `Row.measure`."""

    def measure(bench: Bench, peer: Peer) -> Measured:
        options = [f"--connections={connections}", f"--in-flight={in_flight}", f"--size={size}"]
        settings = []
        if tls:
            options.append(f"--tls={bench.certificate.certificate}")
            settings += bench.certificate.options()
        if deflate:
            options.append("--deflate")
            settings.append("--deflate")
        else:
            opcode = "binary" if binary else bench.plan.opcode
            options.append(f"--{opcode}")
            if opcode == "binary":
                settings.append("--binary")
        with running(peer, bench.cores.server, *settings) as server:
            return measured_by(run_loadgen(bench, server, *options))

    return measure


def _rows() -> list[Row]:
    rows = []
    for table, prefix, tls in (("Echo", "", False), ("Echo over TLS 1.3", "tls-", True)):
        for name, (label, *load) in LOADS.items():
            floor = None if tls else FLOOR
            measure = echo(*load, tls=tls)
            rows.append(Row(prefix + name, table, label, "echoes", measure, floor=floor))
    for name, (label, *load) in COMPRESSED_LOADS.items():
        peers = COMPRESSING
        measure = echo(*load, deflate=True)
        table = "Echo with permessage-deflate"
        rows.append(Row(f"deflate-{name}", table, label, "echoes", measure, peers))
    return rows


SIZE_ROWS = [
    Row(f"size-{name}", SIZES_TABLE, label, "echoes", echo(size, 2, 2, binary=True), floor=FLOOR)
    for name, (label, size) in SIZES.items()
]
ROWS = [*_rows(), *SIZE_ROWS]
