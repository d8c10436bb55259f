"""The benchmarks work: that one is broken would else be seen only when its figures are wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import time_limit

BENCH = Path(__file__).parent.parent / "bench"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="a source package has no benchmarks")


def environment() -> dict[str, str]:
    found = dict(os.environ)
    if "ASAN_OPTIONS" in found:
        # Servers are killed here. Leaks are looked for in the process of the tests.
        found["ASAN_OPTIONS"] += ":detect_leaks=0"
    return found


def bench(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCH / program, *arguments],
        capture_output=True,
        text=True,
        timeout=time_limit(50),
        env=environment(),
        check=False,
    )


def in_bench(code: str) -> str:
    """What a few lines of Python print that import the benchmarks' modules."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BENCH,
        capture_output=True,
        text=True,
        timeout=time_limit(50),
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def quick_run(output: Path, *arguments: str) -> dict:
    done = bench(
        *("run.py", "--quick", "--seconds=0.1", f"--output={output}", "--peers", "uvws-asyncio"),
        *arguments,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def test_rows_measured_later_stand_beside_those_measured_before(tmp_path):
    output = tmp_path / "results.json"
    first = quick_run(output, "--rows", "64B-1")
    both = quick_run(output, "--rows", "client-64B", "roundtrip")
    assert both["rows"]["64B-1"] == first["rows"]["64B-1"]
    assert both["rows"].keys() == {"64B-1", "client-64B", "roundtrip"}
    for name, row in both["rows"].items():
        assert row["failures"] == [], name
        assert all(sample["per_second"] > 0 for sample in row["samples"]), name
    tables = output.with_suffix(".md").read_text()
    assert "### Echo\n" in tables
    assert "### Client, receiving\n" in tables


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    output = tmp_path / "results.json"
    done = quick_run(output, "--rows", "64B-1")
    again = quick_run(output, "--rows", "64B-1", "--resume", "--rounds=2")
    assert {each["round"] for each in again["rows"]["64B-1"]["samples"]} == {0, 1}
    assert again["rows"]["64B-1"]["plan"] != done["rows"]["64B-1"]["plan"]
    resumed = quick_run(output, "--rows", "64B-1", "--resume", "--rounds=2")
    assert resumed["rows"]["64B-1"]["samples"] == again["rows"]["64B-1"]["samples"]


def test_what_is_published_goes_between_the_marks_and_nowhere_else():
    code = """
import publish
text = f"before\\n{publish.BEGIN}\\nold\\n{publish.END}\\nafter\\n"
print(publish.replaced(text, "new", "a file"), end="")
"""
    lines = [line for line in in_bench(code).splitlines() if line]
    assert [line for line in lines if "<!--" not in line] == ["before", "new", "after"]


@pytest.mark.parametrize("broken", ["no marks", "{begin}", "{end} {begin}", "{begin}{begin}{end}"])
def test_a_file_with_other_marks_is_not_published_into(broken):
    code = f"""
import publish
text = {broken!r}.format(begin=publish.BEGIN, end=publish.END)
try:
    publish.replaced(text, "new", "a file")
except publish.BenchError as error:
    print(error)
"""
    assert in_bench(code).startswith("a file must have these two lines once each")


def test_the_readme_and_the_page_have_their_marks():
    code = """
import publish
for path in (publish.README, publish.PAGE):
    publish.replaced(path.read_text(), "new", path.name)
"""
    in_bench(code)


def test_a_count_of_instructions_may_move_within_the_tolerance_alone():
    code = """
import instructions
kept = {"more": 1000, "less": 1000, "same": 1000}
counts = {"more": 1031, "less": 969, "same": 1030, "new": 1}
print("\\n".join(instructions.complaints(counts, kept, 3.0)))
"""
    assert [line.split(":")[0] for line in in_bench(code).splitlines()] == ["more", "less", "new"]


def test_the_peer_that_counts_instructions_echoes_closes_and_compresses():
    code = """
import harness, instructions
for work in instructions.WORKS:
    if work.role == "server" and not work.tls:
        options = ["--deflate"] if work.deflate else []
        options += ["--binary"] if work.binary else []
        with harness.running(harness.PEERS["uvws-asyncio"], 0, *options) as server:
            work.drive(server.port, 32)
        print(work.name)
"""
    names = in_bench(code).split()
    assert names == ["echo-64B", "echo-64B-32", "echo-64K", "echo-1M", "deflate-1K", "connection"]
