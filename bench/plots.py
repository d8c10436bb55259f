"""The results as plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import memory
import serverrows
from echo import SIZE_ROWS, SIZES
from harness import PEERS, YARDSTICK
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from measuring import Row
from report import Summary
from results import Results
from serverrows import SCALES
from tables import summaries_of

mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

# The same for a peer in every plot.
COLOURS = {
    "uvws-pyuv": "#0b5394",
    "uvws-uvloop": "#6fa8dc",
    "uvws-asyncio": "#9fc5e8",
    "picows": "#e69138",
    "websockets": "#6aa84f",
    "aiohttp": "#8e7cc3",
    "socketify": "#cc4125",
}
COMPARED = (
    *("64B-1", "64B-32", "16K", "64K", "1M", "16M", "tls-64B-32", "tls-64K", "deflate-1K"),
    *("client-64B", "client-64K", "roundtrip", "opening", "tls-opening", "broadcast"),
)

Found = dict[tuple[str, str], Summary]


def _peers(found: Found, rows: Sequence[str]) -> list[str]:
    return [name for name in PEERS if any((row, name) in found for row in rows)]


def _plain(value: float, _position: object = None) -> str:
    return f"{value:,.6g}"


def ratios(found: Found) -> Figure | None:
    """Work for each second of CPU time, as a ratio to the yardstick."""
    rows = [row for row in COMPARED if (row, YARDSTICK) in found]
    peers = [peer for peer in _peers(found, rows) if peer != YARDSTICK]
    if not rows or not peers:
        return None
    figure = Figure(figsize=(8, 0.9 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(peers)
    for index, peer in enumerate(peers):
        bars = [
            (at + (index - (len(peers) - 1) / 2) * height, vs["median"], vs["min"], vs["max"])
            for at, row in enumerate(rows)
            if (row, peer) in found
            and (vs := found[row, peer].vs[f"{YARDSTICK} by CPU"]) is not None
        ]
        if not bars:
            continue
        at, middle, least, most = zip(*bars, strict=True)
        # Bars from 1: on this scale, as far to the right for twice as to the left for half.
        axes.barh(at, [m - 1 for m in middle], height, left=1, color=COLOURS[peer], label=peer)
        errors = [
            [m - low for m, low in zip(middle, least, strict=True)],
            [high - m for m, high in zip(middle, most, strict=True)],
        ]
        axes.errorbar(middle, at, xerr=errors, fmt="none", ecolor="#444444", elinewidth=0.7)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.axvline(1, color=COLOURS[YARDSTICK], linewidth=1.5, label=YARDSTICK)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel(f"work for each second of CPU time; {YARDSTICK} = 1, more is better")
    axes.legend(frameon=False)
    return figure


def _curves(
    axes: Axes,
    found: Found,
    rows: Sequence[Row],
    at: Sequence[int],
    value: Callable[[Summary], dict[str, float] | None],
) -> None:
    for peer in _peers(found, [row.name for row in rows]):
        points = [
            (x, seen["median"], seen["min"], seen["max"])
            for x, row in zip(at, rows, strict=True)
            if (row.name, peer) in found and (seen := value(found[row.name, peer])) is not None
        ]
        if not points:
            continue
        x, middle, least, most = zip(*points, strict=True)
        axes.plot(x, middle, marker="o", markersize=3, color=COLOURS[peer], label=peer)
        axes.fill_between(x, least, most, color=COLOURS[peer], alpha=0.15, linewidth=0)


def connections(found: Found) -> Figure | None:
    """Speed by the number of connections."""
    if not _peers(found, [row.name for scale in serverrows.SCALE_ROWS for row in scale]):
        return None
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    both = figure.subplots(1, len(SCALES))
    for axes, (in_flight, at), rows in zip(
        both, SCALES.items(), serverrows.SCALE_ROWS, strict=True
    ):
        _curves(axes, found, rows, at, lambda summary: summary.measured["per_second"])
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xlabel("connections, taking turns")
        axes.set_ylabel("echoes/s, 64 B")
        axes.set_title(f"{in_flight} in flight in all")
    both[0].legend(frameon=False, fontsize=8)
    return figure


def sizes(found: Found) -> Figure | None:
    """Speed and CPU time by the size of the messages."""
    if not _peers(found, [row.name for row in SIZE_ROWS]):
        return None
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    speed, cpu = figure.subplots(1, 2)
    at = [size for _, size in SIZES.values()]
    _curves(speed, found, SIZE_ROWS, at, _megabytes)
    _curves(cpu, found, SIZE_ROWS, at, lambda summary: summary.measured["cpu_us"])
    speed.set_ylabel("MB/s in one direction")
    cpu.set_ylabel("CPU time of the server, µs for each message")
    for axes in (speed, cpu):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xticks(at, list(SIZES), rotation=45)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("binary messages, 2 connections, 2 in flight")
    speed.legend(frameon=False, fontsize=8)
    return figure


def _megabytes(summary: Summary) -> dict[str, float] | None:
    seen = summary.measured["bytes_per_second"]
    return None if seen is None else {name: value / 1e6 for name, value in seen.items()}


def memory_bars(results: Results) -> Figure | None:
    """Resident memory for each open connection."""
    kinds = [kind for kind in memory.KINDS if results.survey(kind.name)]
    seen = {
        (kind.name, each["peer"]): float(each["kib_per_connection"])
        for kind in kinds
        for each in results.survey(kind.name)
    }
    peers = [name for name in PEERS if any(peer == name for _, peer in seen)]
    if not kinds:
        return None
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(peers)
    for index, peer in enumerate(peers):
        at = [i + (index - (len(peers) - 1) / 2) * width for i in range(len(kinds))]
        values = [seen.get((kind.name, peer), 0) for kind in kinds]
        bars = axes.bar(at, values, width, color=COLOURS[peer], label=peer)
        axes.bar_label(bars, [f"{v:.1f}" if v else "" for v in values], fontsize=7, padding=1)
    axes.set_xticks(range(len(kinds)), [kind.label for kind in kinds])
    axes.set_ylabel("KiB of the server for each open connection")
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the plots that there are results for.

    Args:
        results: What was measured.
        folder: Where to.

    Returns:
        The files.
    """
    found = {(s.row.name, s.peer): s for s in summaries_of(results)}
    figures = {
        "ratios": ratios(found),
        "connections": connections(found),
        "sizes": sizes(found),
        "memory": memory_bars(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            path = folder / f"{name}.png"
            # Without the version of matplotlib: the same results make the same file.
            figure.savefig(path, dpi=110, metadata={"Software": None})
            written.append(path)
    return written
