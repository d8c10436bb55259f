"""What a row of a table is, and running rows in turn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness import IN_MOST_ROWS, BenchError, Cores, Peer, Server
from programs import Certificate, build

# The load generator gives up by itself before that.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    warmup: float
    opcode: str

    def options(self) -> list[str]:
        """For the programs in C."""
        return [f"--seconds={self.seconds}", f"--warmup={self.warmup}"]


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    plan: Plan
    cores: Cores
    certificate: Certificate


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        per_second: What ratios of speed are made of.
        cpu_us: CPU time of the measured process for each, in microseconds.
        busy: The part of the time for which it had the CPU.
        other_busy: The same of what it was measured with; None where that is the same process.
        bytes_per_second: Payload in one direction; None where it does not matter.
        p50_us: Median time of one; None where none was timed.
        p99_us: What 99 % were faster than.
        wire: Bytes that came over the wire for each byte of payload, where there is compression.
    """

    per_second: float
    cpu_us: float
    busy: float
    other_busy: float | None = None
    bytes_per_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    wire: float | None = None


@dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        name: For the command line.
        table: The heading of the table that it is in.
        label: What the table calls it.
        unit: What is counted.
        measure: Measures one peer, in fresh processes.
        peers: Who can do it.
        floor: A peer of a kind of its own, which the others are compared with.
    """

    name: str
    table: str
    label: str
    unit: str
    measure: Callable[[Bench, Peer], Measured]
    peers: Sequence[str] = IN_MOST_ROWS
    floor: Peer | None = None


@dataclass(frozen=True)
class Sample:
    """One peer in one row in one round."""

    round: int
    row: str
    peer: str
    measured: Measured

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {"round": self.round, "row": self.row, "peer": self.peer, **asdict(self.measured)}


def run_loadgen(bench: Bench, server: Server, *options: str) -> dict[str, Any]:
    """Run the load generator once, on its CPU.

    Args:
        bench: The CPUs and the length of the window.
        server: What it is to connect to.
        options: What else it is told.

    Returns:
        What it printed.

    Raises:
        BenchError: If it found a wrong answer, or anything else is amiss.
    """
    command = [
        str(build("loadgen")),
        f"--port={server.port}",
        f"--server-pid={server.pid}",
        f"--cpu={bench.cores.client}",
        *bench.plan.options(),
        *options,
    ]
    limit = bench.plan.seconds + bench.plan.warmup + PATIENCE_SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the load generator did not end within {limit:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(done.stderr.strip() or f"loadgen ended with {done.returncode}")
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def measured_by(result: dict[str, Any]) -> Measured:
    """Make a measurement of what the load generator printed.

    Raises:
        BenchError: If nothing came back within the window.
    """
    if result["bytes_per_second"] == 0:
        raise BenchError("nothing came back within the measured window")
    busy = result["server_cpu_seconds"] / result["seconds"]
    # By bytes: a second holds too few messages of 16 MiB to divide by.
    per_second = result["bytes_per_second"] / result["size"]
    return Measured(
        per_second=per_second,
        cpu_us=busy / per_second * 1e6,
        busy=busy,
        other_busy=result["client_cpu_seconds"] / result["seconds"],
        bytes_per_second=result["bytes_per_second"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        wire=result["wire_bytes_per_second"] / result["bytes_per_second"],
    )


def contestants(row: Row, peers: Sequence[Peer]) -> list[Peer]:
    """Those of the peers that can do the row, and its floor."""
    able = [peer for peer in peers if peer.name in row.peers]
    return able if row.floor is None else [*able, row.floor]


@dataclass(frozen=True)
class Step:
    """One measurement that is to be made."""

    round: int
    row: Row
    peer: Peer


def steps(plan: Plan, rows: Sequence[Row], peers: Sequence[Peer]) -> Iterator[Step]:
    """All measurements, interleaved: each round goes through all rows, each row all peers."""
    for number in range(plan.rounds):
        for row in rows:
            able = contestants(row, peers)
            # Another one begins each round, so that none always runs on a warm or a tired machine.
            shift = number % len(able) if able else 0
            for peer in [*able[shift:], *able[:shift]]:
                yield Step(number, row, peer)


@dataclass(frozen=True)
class Survey:
    """What is looked at once for each peer, and has a table of its own.

    Attributes:
        name: For the command line.
        peers: Who can do it.
        measure: Looks at one peer, in fresh processes; returns lines for `markdown`.
        markdown: Makes the table, its heading on top.
    """

    name: str
    peers: Sequence[str]
    measure: Callable[[Bench, Peer], list[dict[str, Any]]]
    markdown: Callable[[Sequence[dict[str, Any]]], str]
