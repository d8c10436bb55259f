"""Rows: clients that receive from a server which is faster than they are."""

from __future__ import annotations

from collections.abc import Callable

from harness import WITH_CLIENTS, BenchError, Peer, read_port, result_of, started
from measuring import PATIENCE_SECONDS, Bench, Measured, Row
from programs import build

# Name: label, bytes.
LOADS = {
    "64B": ("64 B, pipelined", 64),
    "64K": ("64 KiB", 64 << 10),
    "1M": ("1 MiB", 1 << 20),
}


def receive(size: int, *, tls: bool) -> Callable[[Bench, Peer], Measured]:
    """The measurement of one size; see `Row.measure`."""

    def measure(bench: Bench, peer: Peer) -> Measured:
        plan, cores = bench.plan, bench.cores
        flood = [str(build("floodserver")), f"--size={size}", f"--{plan.opcode}", *plan.options()]
        settings = []
        if tls:
            pair = bench.certificate
            flood += [f"--tls={pair.certificate}", f"--key={pair.key}"]
            settings.append(f"--certificate={pair.certificate}")
        scheme = "wss" if tls else "ws"
        limit = plan.seconds + plan.warmup + PATIENCE_SECONDS
        with started(flood, cores.client) as server:
            url = f"{scheme}://127.0.0.1:{read_port(server, 'floodserver')}"
            with started(peer.command("client", f"--url={url}", *settings), cores.server) as client:
                counted = result_of(client, f"the client of {peer.name}", limit)
            sent = result_of(server, "floodserver", limit)
        if (counted["messages"], counted["bytes"]) != (sent["sent"], sent["sent"] * size):
            raise BenchError(f"{sent['sent']} messages were sent, and {counted} counted")
        per_second = sent["messages"] / sent["seconds"]
        busy = sent["client_cpu_seconds"] / sent["seconds"]
        return Measured(
            per_second=per_second,
            cpu_us=busy / per_second * 1e6,
            busy=busy,
            other_busy=sent["server_cpu_seconds"] / sent["seconds"],
            bytes_per_second=per_second * size,
        )

    return measure


ROWS = [
    Row(prefix + name, table, label, "messages", receive(size, tls=tls), WITH_CLIENTS)
    for table, prefix, tls in (
        ("Client, receiving", "client-", False),
        ("Client, receiving over TLS 1.3", "tls-client-", True),
    )
    for name, (label, size) in LOADS.items()
]
