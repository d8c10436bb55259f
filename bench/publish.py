"""Puts the last results where readers find them: `python bench/publish.py`.

The tables and plots in README.md and docs/performance.md are made of `bench/results/results.json`
by this program alone; what is between its marks is written over.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import BENCH, PEERS, RESULTS, YARDSTICK, BenchError, describe, say, table
from report import Summary
from results import Results
from rows import NAMES
from tables import everything, summaries_of

ROOT = BENCH.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
IMAGES = ROOT / "docs" / "images"
BEGIN = "<!-- What follows is written by `make bench-publish`. -->"
END = "<!-- That was written by `make bench-publish`. -->"
LEAST_ROUNDS = 3
PLOTS = {
    "ratios": f"Work for each second of CPU time, relative to {YARDSTICK}",
    "connections": "Echoes a second by the number of connections",
    "sizes": "Throughput and CPU time by the size of the messages",
    "memory": "Memory of the server for each open connection",
}
# What the README shows: rows whose rate counts, and those whose CPU time does.
SMALL = {"64B-1": "1 in flight, echoes/s", "64B-32": "32 in flight, echoes/s"}
LARGE = {
    "size-64K": "64 KiB, CPU µs each",
    "size-1M": "1 MiB, CPU µs each",
    "size-16M": "16 MiB, CPU µs each",
}

Found = dict[tuple[str, str], Summary]


def replaced(text: str, new: str, name: str) -> str:
    """Put something between the marks.

    Args:
        text: The file's.
        new: What is to stand there.
        name: The file's, for the error.

    Returns:
        The file's new text.

    Raises:
        BenchError: If it does not have each mark once, in that order.
    """
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended or BEGIN in rest or END in after:
        raise BenchError(f"{name} must have these two lines once each: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{new.strip()}\n\n{END}{after}"


def _cell(summary: Summary | None, figure: str, ratio: str) -> list[str]:
    if summary is None:
        return ["-", "-"]
    value, vs = summary.value(figure), summary.vs[ratio]
    return [
        "-" if value is None else f"{value:,.0f}",
        "-" if vs is None else f"{vs['median']:.2f}",
    ]


def _small_table(found: Found, rows: dict[str, str], figure: str, ratio: str) -> str:
    headings = ["server", *(h for label in rows.values() for h in (label, f"vs {YARDSTICK}"))]
    lines = [
        [peer, *(c for row in rows for c in _cell(found.get((row, peer)), figure, ratio))]
        for peer in PEERS
        if any((row, peer) in found for row in rows)
    ]
    return table(headings, lines, left=1)


def _memory_line(results: Results) -> str:
    seen = {each["peer"]: each for each in results.survey("memory")}
    each = ", ".join(f"{name} {found['kib_per_connection']:.1f}" for name, found in seen.items())
    count = max(found["connections"] for found in seen.values())
    return f"KiB of memory for each of {count:,} open connections, after one message: {each}."


def for_readme(results: Results) -> str:
    """What README.md shows."""
    found = {(s.row.name, s.peer): s for s in summaries_of(results)}
    small = _small_table(found, SMALL, "per_second", YARDSTICK)
    large = _small_table(found, LARGE, "cpu_us", f"{YARDSTICK} by CPU")
    return (
        "Echo server on one core, a load generator in C on the other; medians of interleaved\n"
        f"rounds, and the ratio to {YARDSTICK} in the same round. First 50 connections with\n"
        f"64-byte text messages:\n\n{small}\n\n"
        "Large binary messages, by the CPU time of the server, as from 1 MiB on the load\n"
        f"generator is the limit:\n\n{large}\n\n{_memory_line(results)}\n\n"
        f"![{PLOTS['ratios']}](docs/images/ratios.png)\n\n{_where(results)}"
    )


def for_page(results: Results) -> str:
    """What docs/performance.md shows."""
    plots = "\n\n".join(f"![{label}](images/{name}.png)" for name, label in PLOTS.items())
    return f"{_where(results)}\n\n{plots}\n\n{everything(results)}"


def _where(results: Results) -> str:
    return "\n".join(describe(where) for where in results.environments())


def _rounded(found: dict[str, float] | None) -> dict[str, float] | None:
    return None if found is None else {name: float(f"{v:.4g}") for name, v in found.items()}


def figures(results: Results) -> str:
    """The JSON that is kept: a line for each peer in each row."""
    lines = []
    for summary in summaries_of(results):
        line = {name: _rounded(found) for name, found in summary.measured.items() if found}
        vs = {name: _rounded(found) for name, found in summary.vs.items() if found}
        lines.append({"row": summary.row.name, "peer": summary.peer, **line, "vs": vs})
    surveys = [{"survey": name, **found} for name in NAMES for found in results.survey(name)]
    parts = {"environments": results.environments(), "rows": lines, "surveys": surveys}
    body = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(each) for each in part) + "\n]"
        for name, part in parts.items()
    )
    return f"{{\n{body}\n}}\n"


def objections(results: Results) -> list[str]:
    """Why these results should not be shown."""
    found = [f"failed: {why}" for why in results.failures()]
    missing = [n for n in NAMES if not results.has_row(n) and not results.survey(n)]
    if missing:
        found.append(f"not measured: {', '.join(missing)}")
    short = [n for n in NAMES if results.has_row(n) and results.plan(n).rounds < LEAST_ROUNDS]
    if short:
        found.append(f"fewer than {LEAST_ROUNDS} rounds: {', '.join(short)}")
    if len(results.environments()) > 1:
        found.append("measured on different machines or with different versions, see the tables")
    found += [
        f"uvws was not as released: {where['uvws']}"
        for where in results.environments()
        if "with changes" in where["uvws"] or "wheel" not in where["uvws"]
    ]
    # A row in which processes waited for each other by design has no mark.
    busy = [f"{s.row.name} {s.peer}" for s in summaries_of(results) if s.disturbed()]
    if len(busy) > len(summaries_of(results)) // 10:
        found.append(f"the machine was busy with something else in {len(busy)} cases")
    return found


def publish(results: Results) -> None:
    """Write all."""
    import plots

    # Both before anything is written: a file without marks changes nothing.
    readme = replaced(README.read_text(), for_readme(results), README.name)
    page = replaced(PAGE.read_text(), for_page(results), PAGE.name)
    written = plots.draw(results, IMAGES)
    README.write_text(readme)
    PAGE.write_text(page)
    FIGURES.write_text(figures(results))
    for path in (README, PAGE, FIGURES, *written):
        say(f"Written: {path.relative_to(ROOT)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=RESULTS / "results.json")
    parser.add_argument("--anyway", action="store_true", help="whatever is wrong with them")
    options = parser.parse_args(arguments)
    try:
        results = Results(options.results)
        found = objections(results)
        for why in found:
            say(f"objection: {why}")
        if found and not options.anyway:
            raise BenchError("nothing was published (--anyway publishes all the same)")
        publish(results)
    except BenchError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
