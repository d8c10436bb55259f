"""Measures uvws against its peers: `python bench/run.py [--rows NAMES] [--quick] [--resume]`.

Every round runs every row with every peer, in turn; ratios are taken within a round and their
median is reported. What is measured takes the place of the same rows in the results of earlier
runs, and tables and plots are made of all.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import progress
from harness import (
    PEERS,
    RESULTS,
    BenchError,
    Peer,
    choose_cores,
    choose_peers,
    environment,
    raise_descriptor_limit,
    say,
)
from measuring import Bench, Plan, Row, Sample, Survey, contestants, steps
from programs import SOURCES, build, make_certificate
from results import Results
from rows import NAMES, QUICK, ROWS, SURVEYS
from tables import everything, some


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help=f"one round of 0.3 s of {', '.join(QUICK)}"
    )
    parser.add_argument("--rounds", type=int, help="how often each is measured: 3, 1 with --quick")
    parser.add_argument("--seconds", type=float, help="for how long: 0.8, 0.3 with --quick")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", help=f"names or patterns; all of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="NAME", help=f"what is installed of {', '.join(PEERS)}"
    )
    parser.add_argument("--binary", action="store_true", help="binary messages; text")
    parser.add_argument(
        "--resume", action="store_true", help="keep what an interrupted run of the same has done"
    )
    parser.add_argument("--output", type=Path, help="the JSON file, in bench/results")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.seconds is not None and options.seconds <= 0:
        parser.error("--seconds must be above 0")
    if options.output is None:
        # A quick run does not undo a long one.
        options.output = RESULTS / ("quick.json" if options.quick else "results.json")
    if options.rows is None:
        options.rows = list(QUICK) if options.quick else ["*"]
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
        rounds=options.rounds if options.rounds is not None else (1 if quick else 3),
        seconds=options.seconds if options.seconds is not None else (0.3 if quick else 0.8),
        warmup=0.1 if quick else 0.3,
        opcode="binary" if options.binary else "text",
    )


def run_rows(
    bench: Bench, rows: Sequence[Row], peers: Sequence[Peer], results: Results, bar: progress.Lines
) -> None:
    """Measure what is not among the results yet."""
    known = {(s.round, s.row, s.peer) for s in results.samples()}
    for step in steps(bench.plan, rows, peers):
        if (step.round, step.row.name, step.peer.name) in known:
            continue
        what = f"{step.row.name} {step.peer.name}"
        bar.begin(what)
        try:
            measured = step.row.measure(bench, step.peer)
            results.add(Sample(step.round, step.row.name, step.peer.name, measured))
            outcome = f"{measured.per_second:,.0f}/s, {measured.cpu_us:,.2f} µs of CPU"
        except BenchError as error:
            results.fail(step.row.name, f"{step.peer.name}, {step.row.name}: {error}")
            outcome = f"FAILED: {error}"
        results.save()
        bar.end(what, outcome)


def run_surveys(
    bench: Bench,
    surveys: Sequence[Survey],
    peers: Sequence[Peer],
    results: Results,
    bar: progress.Lines,
) -> None:
    """Make those that are not among the results yet."""
    for survey in surveys:
        known = {found["peer"] for found in results.survey(survey.name)}
        for peer in peers:
            if peer.name in known or peer.name not in survey.peers:
                continue
            what = f"{survey.name} {peer.name}"
            bar.begin(what)
            try:
                results.add_survey(survey.name, survey.measure(bench, peer))
                outcome = "done"
            except BenchError as error:
                results.fail_survey(survey.name, f"{peer.name}, {survey.name}: {error}")
                outcome = f"FAILED: {error}"
            results.save()
            bar.end(what, outcome)


def left_to_do(
    plan: Plan,
    rows: Sequence[Row],
    surveys: Sequence[Survey],
    peers: Sequence[Peer],
    results: Results,
) -> int:
    """How many steps there will be."""
    names = {row.name for row in rows}
    wanted = plan.rounds * sum(len(contestants(row, peers)) for row in rows)
    done = sum(sample.row in names for sample in results.samples())
    for survey in surveys:
        able = {peer.name for peer in peers if peer.name in survey.peers}
        wanted += len(able)
        done += len(able & {found["peer"] for found in results.survey(survey.name)})
    return wanted - done


def write_reports(results: Results) -> None:
    """Write tables and plots of all results beside the JSON file."""
    tables = results.path.with_suffix(".md")
    tables.write_text(everything(results))
    say(f"Tables of all results: {tables}")
    try:
        import plots
    except ImportError as error:
        say(f"No plots: {error.name} is not installed (make bench has it).")
        return
    for path in plots.draw(results, results.path.parent):
        say(f"Plot: {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    names = chosen(options.rows)
    rows = [ROWS[name] for name in names if name in ROWS]
    surveys = [SURVEYS[name] for name in names if name in SURVEYS]
    raise_descriptor_limit()
    try:
        results = Results(options.output)
        peers = choose_peers(options.peers)
        for program in SOURCES:
            build(program)
        bench = Bench(plan_of(options), choose_cores(), make_certificate())
    except BenchError as error:
        say(f"error: {error}")
        return 1
    where = environment()
    for row in rows:
        results.begin_row(row.name, where, asdict(bench.plan), resume=options.resume)
    for survey in surveys:
        results.begin_survey(survey.name, where, resume=options.resume)
    results.save()
    with progress.show(left_to_do(bench.plan, rows, surveys, peers, results)) as bar:
        run_rows(bench, rows, peers, results, bar)
        run_surveys(bench, surveys, peers, results, bar)

    print(some(results, names))
    write_reports(results)
    failures = results.failures()
    for failure in failures:
        say(f"failed: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted: --resume goes on from here")
        sys.exit(130)
