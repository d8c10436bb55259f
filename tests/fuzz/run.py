"""Fuzzes the C core with libFuzzer and the Python parsers with hypothesis: `make fuzz`.

    python tests/fuzz/run.py [--seconds N] [--targets NAME ...] [--merge]

The targets of libFuzzer get N seconds each (60 unless told), on one processor, and begin with the
inputs in tests/fuzz/corpus; what they find of interest stays in build/fuzz/corpus. With --merge
the smallest set of inputs that reaches as much is then written back to tests/fuzz/corpus. An input
that crashes, leaks, hangs or contradicts an oracle is left in build/fuzz/found; the exit status is
then 1.

docs/fuzzing.md says what the targets and their oracles are.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests" / "fuzz"
SEEDS = HERE / "corpus"
CORE = ROOT / "build" / "fuzz-core"
BUILD = ROOT / "build" / "fuzz"
GROWN = BUILD / "corpus"
FOUND = BUILD / "found"

# What each target is given at most, in bytes.
SIZES = {
    "server_frames": 700,
    "client_frames": 700,
    "request": 1000,
    "response": 1000,
    "head": 1500,
    "deflate": 1000,
    "utf8": 500,
}
PYTHON = "parsers"
SANITIZERS = "-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
# What was freed is kept for 8 MiB: more costs more than all else.
ASAN = "quarantine_size_mb=8:detect_stack_use_after_return=0"


def build(clang: str) -> None:
    """Compile libwebsockets, the core and the harnesses."""
    flags = f"{SANITIZERS} -fno-omit-frame-pointer -g -O1"
    for command in (
        ["-S", ROOT / "csrc", "-B", CORE, f"-DCMAKE_C_FLAGS={flags}"],
        ["--build", CORE, "--target", "lws"],
        ["-S", HERE, "-B", BUILD, f"-DUVWS_BUILD={CORE}", "-DUVWS_ENGINE=libfuzzer"],
        ["--build", BUILD],
    ):
        compiler = [f"-DCMAKE_C_COMPILER={clang}"] if command[0] == "-S" else []
        subprocess.run(["cmake", *map(str, command), *compiler], check=True, stdout=sys.stderr)


def environment() -> dict[str, str]:
    return {**os.environ, "ASAN_OPTIONS": ASAN}


def fuzz(target: str, seconds: int) -> tuple[int, bool]:
    """Run one target; returns how many inputs it ran, and whether all was well."""
    grown = GROWN / target
    grown.mkdir(parents=True, exist_ok=True)
    seeds = [SEEDS / target] if (SEEDS / target).is_dir() else []
    done = subprocess.run(
        [
            BUILD / target,
            f"-max_total_time={seconds}",
            f"-max_len={SIZES[target]}",
            "-len_control=20",
            "-timeout=20",
            "-print_final_stats=1",
            f"-artifact_prefix={FOUND}/{target}-",
            grown,
            *seeds,
        ],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(),
        check=False,
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return int(executed[1]) if executed else 0, done.returncode == 0


def merge(target: str) -> None:
    """Replace a target's committed inputs by the fewest that reach as much."""
    seeds = SEEDS / target
    scratch = BUILD / "merged" / target
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    sources = [path for path in (seeds, GROWN / target) if path.is_dir()]
    subprocess.run(
        [BUILD / target, "-merge=1", scratch, *sources],
        env=environment(),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    seeds.mkdir(parents=True, exist_ok=True)
    for path in seeds.iterdir():
        # Those with a name of their own tell of a fault that was mended.
        if re.fullmatch("[0-9a-f]{40}", path.name):
            path.unlink()
    for path in scratch.iterdir():
        shutil.copy(path, seeds / path.name)


def fuzz_parsers(seconds: int) -> bool:
    """Run the properties of the Python parsers with many examples."""
    tests = ROOT / "tests" / "test_fuzz_parsers.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "--timeout", "0", str(tests)],
        env={**os.environ, "UVWS_FUZZ_EXAMPLES": str(100 * seconds)},
        check=False,
        cwd=ROOT,
    )
    return done.returncode == 0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--targets", nargs="+", choices=[*SIZES, PYTHON], default=[*SIZES, PYTHON])
    parser.add_argument("--merge", action="store_true", help="renew tests/fuzz/corpus")
    options = parser.parse_args()
    clang = shutil.which("clang") or shutil.which("clang-14")
    if clang is None:
        print("clang is missing; run: apt-get install clang-14 libclang-rt-14-dev")
        return 2
    build(clang)
    FOUND.mkdir(parents=True, exist_ok=True)
    all_well = True
    total = 0
    for target in options.targets:
        if target == PYTHON:
            all_well &= fuzz_parsers(options.seconds)
            continue
        count, well = fuzz(target, options.seconds)
        total += count
        all_well &= well
        print(f"{target:14} {count:10,} inputs  {'fine' if well else 'FAULT'}", flush=True)
        if options.merge and well:
            merge(target)
    print(f"{'in all':14} {total:10,} inputs")
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
