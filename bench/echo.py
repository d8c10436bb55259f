"""Echo servers against the load generator: `python bench/echo.py [--quick]`.

One server process on one core, the load generator on another. Every round runs every row with every
server, in turn; the ratios are taken within a round and their median is reported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import (
    RESULTS,
    YARDSTICK,
    BenchError,
    Cores,
    Peer,
    build_loadgen,
    choose_cores,
    choose_peers,
    describe,
    environment,
    median,
    raise_descriptor_limit,
    running,
    say,
    table,
)

# A process that is busy for this part of the time is the limit.
SATURATED = 0.9
LIMITED = " (a)"
DISTURBED = " (b)"
NOTES = {
    LIMITED: "(a) The load generator is the limit too: the ratio by CPU counts.",
    DISTURBED: "(b) Neither of the two was busy: they waited for each other, or something else had "
    "the CPUs; run it again on a quiet machine, or trust the ratio by CPU alone.",
}


@dataclass(frozen=True)
class Row:
    """One kind of load."""

    name: str
    label: str
    size: int
    connections: int
    in_flight: int


ROWS = {
    row.name: row
    for row in (
        Row("64B-1", "64 B, 50 connections, 1 in flight", 64, 50, 1),
        Row("64B-32", "64 B, 50 connections, 32 in flight", 64, 50, 32),
        Row("16K", "16 KiB, 10 connections, 4 in flight", 16 << 10, 10, 4),
        Row("64K", "64 KiB, 10 connections, 4 in flight", 64 << 10, 10, 4),
        Row("1M", "1 MiB, 2 connections, 2 in flight", 1 << 20, 2, 2),
        Row("16M", "16 MiB, 2 connections, 2 in flight", 16 << 20, 2, 2),
    )
}
DEFAULT_ROWS = ("64B-1", "64B-32", "16K", "1M")


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    warmup: float
    opcode: str


@dataclass(frozen=True)
class Sample:
    """One server under one load in one round; CPU times in microseconds for each message."""

    round: int
    row: str
    peer: str
    per_second: float
    bytes_per_second: float
    p50_us: float | None
    p99_us: float | None
    server_cpu_us: float
    server_busy: float
    client_busy: float


def run_loadgen(command: Sequence[str], limit: float) -> dict[str, Any]:
    """Run the load generator once.

    Args:
        command: Its command line.
        limit: Seconds after which it is taken for stuck.

    Returns:
        What it printed.

    Raises:
        BenchError: If it found a wrong echo, or anything else is amiss.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the load generator did not end within {limit:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(done.stderr.strip() or f"loadgen ended with {done.returncode}")
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    if result["messages"] == 0:
        raise BenchError("no message was echoed within the measured window")
    return result


def measure(
    loadgen: Path, cores: Cores, plan: Plan, round_number: int, row: Row, peer: Peer
) -> Sample:
    """Run one server, fresh, under one load."""
    with running(peer, cores.server) as server:
        command = [
            str(loadgen),
            f"--port={server.port}",
            f"--connections={row.connections}",
            f"--in-flight={row.in_flight}",
            f"--size={row.size}",
            f"--seconds={plan.seconds}",
            f"--warmup={plan.warmup}",
            f"--cpu={cores.client}",
            f"--server-pid={server.pid}",
            f"--{plan.opcode}",
        ]
        got = run_loadgen(command, plan.seconds + plan.warmup + 60)
    return Sample(
        round=round_number,
        row=row.name,
        peer=peer.name,
        per_second=got["per_second"],
        bytes_per_second=got["bytes_per_second"],
        p50_us=got["p50_us"],
        p99_us=got["p99_us"],
        server_cpu_us=got["server_cpu_seconds"] / got["messages"] * 1e6,
        server_busy=got["server_cpu_seconds"] / got["seconds"],
        client_busy=got["client_cpu_seconds"] / got["seconds"],
    )


def run_all(
    loadgen: Path, cores: Cores, plan: Plan, rows: Sequence[Row], peers: Sequence[Peer]
) -> tuple[list[Sample], list[str]]:
    """Run everything, interleaved.

    Returns:
        The samples, and what went wrong.
    """
    samples: list[Sample] = []
    failures: list[str] = []
    total = plan.rounds * len(rows) * len(peers)
    start = time.monotonic()
    done = 0
    for round_number in range(plan.rounds):
        # Another server begins each round, so that none always runs on a warm or a tired machine.
        shift = round_number % len(peers)
        for row in rows:
            for peer in [*peers[shift:], *peers[:shift]]:
                try:
                    sample = measure(loadgen, cores, plan, round_number, row, peer)
                    samples.append(sample)
                    outcome = f"{sample.per_second:,.0f}/s"
                except BenchError as error:
                    failures.append(f"{peer.name}, {row.label}: {error}")
                    outcome = f"FAILED: {error}"
                done += 1
                left = (time.monotonic() - start) / done * (total - done)
                say(f"[{done}/{total}, {left:.0f} s left] {row.name} {peer.name}: {outcome}")
    return samples, failures


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and extremes."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def summarise(samples: Sequence[Sample], row: Row, peer: Peer) -> dict[str, Any] | None:
    """Reduce one server's samples under one load; None if there is none."""
    own = [s for s in samples if s.row == row.name and s.peer == peer.name]
    if not own:
        return None
    reference = {s.round: s for s in samples if s.row == row.name and s.peer == YARDSTICK}
    pairs = [(s, reference[s.round]) for s in own if s.round in reference]
    summary: dict[str, Any] = {
        "row": row.name,
        "peer": peer.name,
        "rounds": len(own),
        "per_second": spread([s.per_second for s in own]),
        "bytes_per_second": spread([s.bytes_per_second for s in own]),
        "server_cpu_us": spread([s.server_cpu_us for s in own]),
        "server_busy": median([s.server_busy for s in own]),
        "client_busy": median([s.client_busy for s in own]),
        "p50_us": median([s.p50_us for s in own if s.p50_us is not None]),
        "p99_us": median([s.p99_us for s in own if s.p99_us is not None]),
        "ratio": None,
        "cpu_ratio": None,
    }
    if row.in_flight != 1:
        summary["p50_us"] = summary["p99_us"] = None
    if pairs:
        # By bytes, not messages: a second holds too few messages of 16 MiB to divide by.
        summary["ratio"] = spread([s.bytes_per_second / r.bytes_per_second for s, r in pairs])
        summary["cpu_ratio"] = spread([r.server_cpu_us / s.server_cpu_us for s, r in pairs])
    return summary


def optional(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value, form)


def mark_of(summary: dict[str, Any]) -> str:
    """What qualifies a line, if anything does."""
    if summary["client_busy"] >= SATURATED:
        return LIMITED
    if summary["server_busy"] < SATURATED:
        return DISTURBED
    return ""


def markdown_line(row: Row, summary: dict[str, Any]) -> list[str]:
    """One line of the table."""
    rate, ratio, cpu_ratio = summary["per_second"], summary["ratio"], summary["cpu_ratio"]
    return [
        row.label,
        summary["peer"],
        f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})",
        f"{summary['bytes_per_second']['median'] / 1e6:,.0f}",
        "-" if ratio is None else f"{ratio['median']:.2f}",
        f"{summary['server_cpu_us']['median']:,.2f}",
        "-" if cpu_ratio is None else f"{cpu_ratio['median']:.2f}",
        f"{summary['server_busy']:.0%}",
        f"{summary['client_busy']:.0%}{mark_of(summary)}",
        f"{optional(summary['p50_us'], ',.0f')} / {optional(summary['p99_us'], ',.0f')}",
    ]


def markdown(
    rows: Sequence[Row], summaries: Sequence[dict[str, Any]], plan: Plan, where: dict[str, Any]
) -> str:
    """The whole report."""
    headings = [
        "load",
        "server",
        "echoes/s, median (min to max)",
        "MB/s",
        f"vs {YARDSTICK}",
        "server CPU µs/echo",
        f"vs {YARDSTICK} by CPU",
        "server busy",
        "load generator busy",
        "p50 / p99 µs",
    ]
    notes = [note for mark, note in NOTES.items() if any(mark == mark_of(s) for s in summaries)]
    lines = [markdown_line(row, s) for row in rows for s in summaries if s["row"] == row.name]
    return (
        f"{table(headings, lines)}\n\n"
        f"{plan.rounds} rounds of {plan.seconds:g} s, {plan.opcode} messages. The ratios are "
        f"medians of the ratios in one round; above 1 is better than {YARDSTICK}. {' '.join(notes)}"
        f"\n\n{describe(where)}\n"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s: two minutes")
    parser.add_argument("--rounds", type=int, help="5, or 3 with --quick")
    parser.add_argument("--seconds", type=float, help="measured in each; 3, or 1 with --quick")
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, "all"], default=list(DEFAULT_ROWS))
    parser.add_argument("--peers", nargs="+", help="the servers; what is installed")
    parser.add_argument("--binary", action="store_true", help="binary messages; text")
    parser.add_argument("--output", type=Path, default=RESULTS / "echo.json", help="the JSON file")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.seconds is not None and options.seconds <= 0:
        parser.error("--seconds must be above 0")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    """How much to measure, by the command line."""
    quick = bool(options.quick)
    return Plan(
        rounds=options.rounds if options.rounds is not None else (3 if quick else 5),
        seconds=options.seconds if options.seconds is not None else (1.0 if quick else 3.0),
        warmup=0.3 if quick else 1.0,
        opcode="binary" if options.binary else "text",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    plan = plan_of(options)
    rows = list(ROWS.values()) if "all" in options.rows else [ROWS[n] for n in options.rows]
    try:
        peers = choose_peers(options.peers)
        loadgen = build_loadgen()
    except BenchError as error:
        say(f"error: {error}")
        return 1
    raise_descriptor_limit()
    where = environment()
    samples, failures = run_all(loadgen, choose_cores(), plan, rows, peers)
    summaries = [s for row in rows for peer in peers if (s := summarise(samples, row, peer))]

    print(markdown(rows, summaries, plan, where))
    report = {
        "environment": where,
        "plan": asdict(plan),
        "rows": [asdict(row) for row in rows],
        "yardstick": YARDSTICK,
        "summaries": summaries,
        "samples": [asdict(s) for s in samples],
        "failures": failures,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    for failure in failures:
        say(f"failed: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
