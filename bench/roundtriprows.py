"""Rows: a round trip with both ends in one loop of one process."""

from __future__ import annotations

from collections.abc import Callable

from harness import WITH_CLIENTS, Peer, result_of, started
from measuring import PATIENCE_SECONDS, Bench, Measured, Row
from programs import FLOOR, build


def roundtrip(*, tls: bool) -> Callable[[Bench, Peer], Measured]:
    """The measurement; see `Row.measure`. Its speed is the median's."""

    def measure(bench: Bench, peer: Peer) -> Measured:
        plan = bench.plan
        settings = bench.certificate.options() if tls else []
        if peer == FLOOR:
            command = [str(build("pingpong")), *plan.options()]
        else:
            command = peer.command("roundtrip", *plan.options(), *settings)
        with started(command, bench.cores.server) as process:
            limit = plan.seconds + plan.warmup + PATIENCE_SECONDS
            got = result_of(process, peer.name, limit)
        return Measured(
            per_second=1e6 / got["p50_us"],
            cpu_us=got["cpu_seconds"] / got["messages"] * 1e6,
            busy=got["cpu_seconds"] / got["seconds"],
            p50_us=got["p50_us"],
            p99_us=got["p99_us"],
        )

    return measure


TABLE = "Round trip, both ends in one loop"
LABEL = "64 B, one connection"
ROWS = [
    Row(
        *("roundtrip", TABLE, LABEL, "round trips", roundtrip(tls=False), WITH_CLIENTS),
        floor=FLOOR,
    ),
    Row(
        *("tls-roundtrip", TABLE, f"{LABEL}, TLS 1.3", "round trips", roundtrip(tls=True)),
        peers=WITH_CLIENTS,
    ),
]
