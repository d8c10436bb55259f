"""Runs wstest against uvws: `make autobahn`."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import python2
from .loops import KINDS
from .plan import QUICK, Job, jobs, whole_plan
from .report import page, summary
from .suite import ROLES, TRANSPORTS, Outcome, SuiteError, run_suite

_PRINTING = threading.Lock()


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    arguments = _arguments()
    try:
        interpreter = python2.environment()
    except python2.NoPython2Error as error:
        print(error, file=sys.stderr)
        return 1
    outcomes, failures = _run_all(
        _plan(arguments), interpreter, arguments.processes, arguments.timeout
    )
    print()
    print(summary(outcomes, failures))
    if arguments.report is not None:
        arguments.report.write_text(page(outcomes, failures, _command(arguments)))
    if failures or not all(outcome.is_good for outcome in outcomes):
        print("Not all is OK, NON-STRICT or INFORMATIONAL.", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make autobahn ARGS=...",
        description="Runs Autobahn's wstest against uvws. Without arguments: all of it.",
    )
    parser.add_argument("--cases", nargs="+", help="such as 9.1.1 or '1.*', or quick: on uvloop")
    parser.add_argument("--roles", nargs="+", choices=ROLES)
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS)
    parser.add_argument("--loops", nargs="+", choices=KINDS)
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="how many of wstest at a time"
    )
    parser.add_argument("--timeout", type=float, default=7200, help="of each, in seconds")
    parser.add_argument("--report", type=Path, help="write a page about it to this file")
    return parser.parse_args()


def _command(arguments: argparse.Namespace) -> str:
    """Return what was typed, but for where the page goes."""
    given = []
    for name in ("cases", "roles", "transports", "loops"):
        values = getattr(arguments, name)
        if values is not None:
            given += [f"--{name}", *values]
    return f'make autobahn ARGS="{shlex.join(given)}"' if given else "make autobahn"


def _plan(arguments: argparse.Namespace) -> list[Job]:
    roles = arguments.roles or ROLES
    transports = arguments.transports or TRANSPORTS
    if arguments.cases is None:
        loops = arguments.loops or KINDS
        return [
            job
            for job in whole_plan()
            if job.run.role in roles and job.run.transport in transports and job.run.loop in loops
        ]
    cases = QUICK if arguments.cases == ["quick"] else tuple(arguments.cases)
    return list(jobs(roles, transports, arguments.loops or ("uvloop",), (cases,)))


def _run_all(
    plan: Sequence[Job], interpreter: Path, processes: int, timeout: float
) -> tuple[list[Outcome], list[str]]:
    def run(number: int, job: Job) -> Outcome | SuiteError:
        directory = python2.BUILD / "reports" / job.run.name / str(number)
        try:
            outcome = run_suite(
                job.run,
                python2=interpreter,
                cases=job.cases,
                directory=directory,
                timeout=timeout,
            )
        except SuiteError as error:
            _say(f"{job.run.name}: {error}")
            return error
        _say(f"{job.run.name}: {len(outcome.verdicts)} cases in {outcome.seconds:.0f} s")
        return outcome

    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(run, range(len(plan)), plan))
    outcomes = [outcome for outcome in done if isinstance(outcome, Outcome)]
    failures = [
        f"{job.run.name}, {' '.join(job.cases)}: {str(error).splitlines()[0]}"
        for job, error in zip(plan, done, strict=True)
        if isinstance(error, SuiteError)
    ]
    return outcomes, failures


def _say(line: str) -> None:
    with _PRINTING:
        print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
