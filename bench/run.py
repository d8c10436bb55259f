"""Measures uvws against its peers: `python bench/run.py [--rows NAMES] [--quick]`.

Every round runs every row with every peer, in turn; ratios are taken within a round and their
median is reported.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import clientrows
import echo
import idle
import roundtriprows
import serverrows
from harness import (
    PEERS,
    RESULTS,
    YARDSTICK,
    BenchError,
    choose_cores,
    choose_peers,
    describe,
    environment,
    raise_descriptor_limit,
    say,
)
from measuring import Bench, Plan, Row, contestants, run_rows
from programs import SOURCES, build, make_certificate
from report import growth, markdown, summarise

ROWS = {
    row.name: row for module in (echo, clientrows, roundtriprows, serverrows) for row in module.ROWS
}
IDLE = "idle"
NAMES = (*ROWS, IDLE)
DEFAULT_ROWS = (
    *("64B-1", "64B-32", "16K", "1M", "tls-64B-32", "tls-64K", "deflate-1K", "deflate-64K"),
    *("client-64B", "client-64K", "client-1M", "roundtrip", "opening", "broadcast", IDLE),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round of 0.5 s: two minutes")
    parser.add_argument("--rounds", type=int, help="how often each is measured: 2, 1 with --quick")
    parser.add_argument("--seconds", type=float, help="for how long: 0.8, 0.5 with --quick")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        default=list(DEFAULT_ROWS),
        help=f"names or patterns, or all; known: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="NAME", help=f"what is installed of {', '.join(PEERS)}"
    )
    parser.add_argument("--binary", action="store_true", help="binary messages; text")
    parser.add_argument("--output", type=Path, default=RESULTS / "bench.json", help="the JSON file")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.seconds is not None and options.seconds <= 0:
        parser.error("--seconds must be above 0")
    for pattern in options.rows:
        if pattern != "all" and not fnmatch.filter(NAMES, pattern):
            parser.error(f"no row is called {pattern!r}; known: {', '.join(NAMES)}")
    return options


def chosen(patterns: Sequence[str]) -> list[str]:
    """The names of the rows asked for, in the order of the tables."""
    return [n for n in NAMES if "all" in patterns or any(fnmatch.fnmatch(n, p) for p in patterns)]


def plan_of(options: argparse.Namespace) -> Plan:
    """How much to measure, by the command line."""
    quick = bool(options.quick)
    return Plan(
        rounds=options.rounds if options.rounds is not None else (1 if quick else 2),
        seconds=options.seconds if options.seconds is not None else (0.5 if quick else 0.8),
        warmup=0.2 if quick else 0.3,
        opcode="binary" if options.binary else "text",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    names = chosen(options.rows)
    rows: list[Row] = [ROWS[name] for name in names if name in ROWS]
    raise_descriptor_limit()
    try:
        peers = choose_peers(options.peers)
        for program in SOURCES:
            build(program)
        bench = Bench(plan_of(options), choose_cores(), make_certificate())
    except BenchError as error:
        say(f"error: {error}")
        return 1
    where = environment()
    report: dict[str, Any] = {
        "environment": where,
        "plan": asdict(bench.plan),
        "yardstick": YARDSTICK,
    }
    samples, failures = run_rows(bench, rows, peers)
    summaries = [
        summary
        for row in rows
        for peer in contestants(row, peers)
        if (summary := summarise(samples, row, peer.name))
    ]
    if summaries:
        print(markdown(summaries, bench.plan))
    for scale in serverrows.SCALE_ROWS:
        scaled = [row for row in scale if row in rows]
        if len(scaled) > 1:
            print(growth(samples, scaled, [peer.name for peer in peers]))
    if IDLE in names:
        results, idle_failures = idle.run(bench, peers)
        failures += idle_failures
        report["idle"] = [asdict(result) for result in results]
        print(idle.markdown(results))
    print(describe(where))

    report["summaries"] = [summary.as_json() for summary in summaries]
    report["samples"] = [sample.as_json() for sample in samples]
    report["failures"] = failures
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    for failure in failures:
        say(f"failed: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
