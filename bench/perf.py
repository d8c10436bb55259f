"""Where the time goes: `python bench/perf.py [--row 64B-32] [--peer uvws-pyuv]`.

Runs a row once, its server (or client) under perf, and sorts the samples by what they were in. No
hardware counter is needed. The report goes to bench/results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import (
    BENCH,
    PEERS,
    RESULTS,
    BenchError,
    Peer,
    choose_cores,
    choose_peers,
    describe,
    environment,
    raise_descriptor_limit,
    say,
    table,
)
from measuring import Bench, Measured, Plan, Row
from programs import make_certificate
from rows import ROWS

HERTZ = 999
# Starting is not looked at, nor is the beginning of the warm-up.
DELAY_SECONDS = 1.0
WARMUP_SECONDS = 1.0
WRITING_SECONDS = 30.0
TOP = 40

# perf attaches to the shell, which then becomes the program: what was started is the process that
# is measured, and perf writes its file when that ends. $0 is the file, $1 the CPU for perf.
SHIM = """
taskset -c "$1" perf record --quiet -F HERTZ -e cpu-clock -D DELAY -o "$0" -p $$ \
    >/dev/null 2>"$0.log" &
echo $! >"$0.pid"
shift
exec "$@"
""".replace("HERTZ", str(HERTZ)).replace("DELAY", f"{DELAY_SECONDS * 1e3:.0f}")

# By the name of the file that the code is in; what uvws and pyuv are made of is told by names.
GROUPS = (
    ("[kernel", "kernel"),
    ("[vdso]", "kernel"),
    ("_cffi_backend", "cffi"),
    ("libpython", "CPython"),
    ("python3", "CPython"),
    ("libssl", "OpenSSL"),
    ("libcrypto", "OpenSSL"),
    ("libz.", "zlib"),
    ("libc.", "libc"),
    ("libc-", "libc"),
)
UV_MODULES = ("_cpyuv", "loop.", "libuv")


@dataclass(frozen=True)
class Under(Peer):
    """A peer whose processes run under perf.

    Attributes:
        data: The file that perf writes.
        cpu: Where perf runs.
    """

    data: Path = Path()
    cpu: int = 0

    def command(self, role: str, *options: str) -> list[str]:
        """See `Peer.command`."""
        shim = ["sh", "-c", SHIM, str(self.data), str(self.cpu)]
        return [*shim, *super().command(role, *options)]


def names_of_lws() -> frozenset[str]:
    """The functions of libwebsockets, which is a part of uvws's module."""
    found: set[str] = set()
    for archive in (BENCH.parent / "build").glob("*/lws/lib/libwebsockets.a"):
        said = subprocess.run(
            ["nm", "--defined-only", str(archive)], capture_output=True, text=True, check=False
        )
        words = (line.split() for line in said.stdout.splitlines())
        found.update(w[2] for w in words if len(w) == 3 and w[1] in "tT")
    return frozenset(found)


def group_of(module: str, symbol: str, lws: frozenset[str]) -> str:
    """Whose code it is."""
    if module.startswith("_core"):
        # What the compiler made of a function has a dot and more behind its name.
        name = symbol.split(".")[0]
        return "libwebsockets" if name in lws or "lws" in name else "uvws core"
    for start, group in GROUPS:
        if module.startswith(start):
            return group
    if module.startswith(UV_MODULES):
        return "libuv" if symbol.startswith("uv_") else "the loop's module"
    return module


def record(row: Row, bench: Bench, peer: Peer, data: Path) -> Measured:
    """Run the row once under perf; its file is complete afterwards."""
    under = Under(**{**vars(peer), "data": data, "cpu": bench.cores.client})
    measured = row.measure(bench, under)
    process = Path("/proc") / Path(f"{data}.pid").read_text().strip()
    deadline = time.monotonic() + WRITING_SECONDS
    while process.exists() and "Z" not in (process / "stat").read_text().split(") ")[-1][:1]:
        if time.monotonic() > deadline:
            raise BenchError("perf does not end")
        time.sleep(0.05)
    if not data.exists() or data.stat().st_size == 0:
        raise BenchError(f"perf wrote nothing: {Path(f'{data}.log').read_text().strip()}")
    return measured


def samples_in(data: Path) -> Counter[tuple[str, str]]:
    """How often each function of each file was seen."""
    command = [
        "perf",
        "report",
        "--stdio",
        "-n",
        "-t",
        "|",
        "--sort",
        "dso,symbol",
        "-i",
        str(data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"perf report failed: {done.stderr.strip()}")
    seen: Counter[tuple[str, str]] = Counter()
    for line in done.stdout.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) >= 4 and not line.startswith("#"):
            # "[k] name" or "[.] name".
            seen[fields[2], fields[3][4:]] += int(fields[1])
    if not seen:
        raise BenchError("perf saw nothing: was the row over too soon? (--seconds)")
    return seen


def markdown(seen: Counter[tuple[str, str]]) -> str:
    """By group, and the functions with the most."""
    lws = names_of_lws()
    groups: Counter[str] = Counter()
    for (module, symbol), count in seen.items():
        groups[group_of(module, symbol, lws)] += count
    total = seen.total()
    by_group = [[name, f"{n / total:.1%}"] for name, n in groups.most_common()]
    by_name = [
        [symbol, group_of(module, symbol, lws), f"{n / total:.1%}"]
        for (module, symbol), n in seen.most_common(TOP)
    ]
    return (
        f"{table(['code of', 'of the CPU time'], by_group, left=1)}\n\n"
        f"{table(['function', 'of', 'of the CPU time'], by_name)}\n\n{total:,} samples.\n"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--row", choices=list(ROWS), default="64B-32", metavar="NAME")
    parser.add_argument("--peer", choices=list(PEERS), default="uvws-pyuv", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=3.0, help="3")
    parser.add_argument("--binary", action="store_true", help="binary messages; text")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the profile; returns the exit code."""
    options = parse(arguments)
    raise_descriptor_limit()
    plan = Plan(1, options.seconds, WARMUP_SECONDS, "binary" if options.binary else "text")
    try:
        (peer,) = choose_peers([options.peer])
        bench = Bench(plan, choose_cores(), make_certificate())
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "perf.data"
            measured = record(ROWS[options.row], bench, peer, data)
            report = markdown(samples_in(data))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    title = f"# {options.row}, {options.peer}\n\n{describe(environment())}\n\n"
    rate = f"{measured.per_second:,.0f}/s under perf, {measured.cpu_us:,.2f} µs of CPU each.\n\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"profile-{options.row}-{options.peer}.md"
    path.write_text(title + rate + report)
    print(title + rate + report)
    say(f"Written to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
