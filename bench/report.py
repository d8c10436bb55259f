"""Reduces samples to medians and ratios, and puts them into tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness import PEERS, YARDSTICK, median, table
from measuring import Measured, Plan, Row, Sample

# A process that is busy for this part of the time is the limit.
SATURATED = 0.9
LIMITED = " (a)"
DISTURBED = " (b)"
NOTES = {
    LIMITED: "(a) The other side is the limit too: the ratio by CPU counts.",
    DISTURBED: "(b) Neither of the two was busy: they waited for each other, or something else had "
    "the CPUs; run it again on a quiet machine, or trust the ratio by CPU alone.",
}
# Here two processes wait for each other by design.
ALTERNATING = ("scale-",)

Rounds = dict[int, Measured]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median and extremes."""
    known = list(values)
    return {"median": median(known), "min": min(known), "max": max(known)}


def rounds_of(samples: Sequence[Sample], row: str, peer: str) -> Rounds:
    """One peer's measurements in one row."""
    return {s.round: s.measured for s in samples if (s.row, s.peer) == (row, peer)}


def ratio(
    own: Rounds, other: Rounds, better: Callable[[Measured, Measured], float]
) -> dict[str, float] | None:
    """Compare round by round; None if there is no common round."""
    common = own.keys() & other.keys()
    return spread(better(own[n], other[n]) for n in common) if common else None


def faster(own: Measured, other: Measured) -> float:
    """By rate."""
    return own.per_second / other.per_second


def thriftier(own: Measured, other: Measured) -> float:
    """By CPU time for each."""
    return other.cpu_us / own.cpu_us


def best_peer(samples: Sequence[Sample], row: Row, key: Callable[[Measured], float]) -> str | None:
    """Whoever else has the highest median."""
    others = {
        name: [key(m) for m in rounds_of(samples, row.name, name).values()]
        for name, peer in PEERS.items()
        if not peer.ours
    }
    known = {name: median(values) for name, values in others.items() if values}
    return max(known, key=lambda name: known[name]) if known else None


@dataclass(frozen=True)
class Summary:
    """One peer in one row."""

    row: Row
    peer: str
    measured: dict[str, dict[str, float] | None]
    vs: dict[str, dict[str, float] | None]

    def value(self, name: str) -> float | None:
        """The median of something measured."""
        found = self.measured[name]
        return None if found is None else found["median"]

    def mark(self) -> str:
        """What qualifies the line, if anything does."""
        other = self.value("other_busy")
        busy = self.value("busy")
        assert busy is not None
        if self.row.name.startswith(ALTERNATING):
            return ""
        if other is not None and other >= SATURATED:
            return LIMITED
        return DISTURBED if busy < SATURATED else ""

    def disturbed(self) -> bool:
        """Whether neither process was busy, though one should have been."""
        return self.mark() == DISTURBED


def summarise(samples: Sequence[Sample], row: Row, peer: str) -> Summary | None:
    """Reduce one peer's samples in one row; None if there is none."""
    own = rounds_of(samples, row.name, peer)
    if not own:
        return None
    measured: dict[str, dict[str, float] | None] = {}
    for name in Measured.__dataclass_fields__:
        values = [value for m in own.values() if (value := getattr(m, name)) is not None]
        measured[name] = spread(values) if values else None
    fastest = best_peer(samples, row, lambda m: m.per_second)
    thriftiest = best_peer(samples, row, lambda m: 1 / m.cpu_us)
    references = {
        YARDSTICK: (YARDSTICK, faster),
        f"{YARDSTICK} by CPU": (YARDSTICK, thriftier),
        "best peer": (fastest, faster),
        "best peer by CPU": (thriftiest, thriftier),
    }
    if row.floor is not None:
        references[row.floor.name] = (row.floor.name, faster)
        references[f"{row.floor.name} by CPU"] = (row.floor.name, thriftier)
    vs = {
        name: None if other is None else ratio(own, rounds_of(samples, row.name, other), better)
        for name, (other, better) in references.items()
    }
    return Summary(row, peer, measured, vs)


def number(value: float | None, form: str = ",.0f") -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value, form)


def middle(found: dict[str, float] | None) -> str:
    """A ratio, or a dash."""
    return "-" if found is None else f"{found['median']:.2f}"


def line(summary: Summary, against: Sequence[str]) -> list[str]:
    """One line of a table."""
    rate = summary.measured["per_second"]
    assert rate is not None
    size = summary.value("bytes_per_second")
    other = summary.value("other_busy")
    return [
        summary.row.label,
        summary.peer,
        f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})",
        number(None if size is None else size / 1e6),
        number(summary.value("cpu_us"), ",.2f"),
        *(middle(summary.vs.get(name)) for name in against),
        f"{number(summary.value('busy'), '.0%')} / {number(other, '.0%')}{summary.mark()}",
        f"{number(summary.value('p50_us'), ',.1f')} / {number(summary.value('p99_us'), ',.1f')}",
    ]


def markdown_table(name: str, summaries: Sequence[Summary]) -> str:
    """One table, its heading on top."""
    against = list(dict.fromkeys(key for s in summaries for key in s.vs))
    headings = [
        "load",
        "peer",
        f"{summaries[0].row.unit}/s, median (min to max)",
        "MB/s",
        "CPU µs each",
        *(f"vs {key}" for key in against),
        "busy: it / other side",
        "p50 / p99 µs",
    ]
    return f"### {name}\n\n{table(headings, [line(s, against) for s in summaries])}\n"


def _listed(plans: Sequence[Plan]) -> str:
    """How much was measured, in words."""
    return "; ".join(
        dict.fromkeys(f"{p.rounds} rounds of {p.seconds:g} s, {p.opcode} messages" for p in plans)
    )


def markdown(summaries: Sequence[Summary], plans: Sequence[Plan]) -> str:
    """All tables, and what is to be said below them."""
    names = dict.fromkeys(s.row.table for s in summaries)
    tables = [markdown_table(n, [s for s in summaries if s.row.table == n]) for n in names]
    notes = [note for mark, note in NOTES.items() if any(mark == s.mark() for s in summaries)]
    tables.append(
        f"{_listed(plans)}. Ratios are medians of the ratios in one round; above 1 is better "
        f"than what it is compared with. {' '.join(notes)}\n"
    )
    return "\n".join(tables)


def growth(samples: Sequence[Sample], rows: Sequence[Row], peers: Sequence[str]) -> str:
    """Time for each message, as a ratio to the row with the fewest connections."""
    lines = []
    for peer in peers:
        least = rounds_of(samples, rows[0].name, peer)
        for kind, better in (("wall", faster), ("CPU", thriftier)):
            # Growth is the inverse of being better.
            found = [ratio(least, rounds_of(samples, row.name, peer), better) for row in rows]
            if any(found):
                lines.append([peer, kind, *(middle(each) for each in found)])
    headings = ["peer", "time", *(row.label for row in rows)]
    title = f"### {rows[0].table}: time for each, relative to {rows[0].label}"
    return f"{title}\n\n{table(headings, lines)}\n"


# EV::Websockets as a ratio to the yardstick, measured elsewhere on one machine with both; in the
# round trip both ends are in one loop, and the ratio is that of its times.
ELSEWHERE = {
    "64B-1": ("80,000 and 115,000 echoes/s", 80 / 115),
    "64B-32": ("128,000 and 165,000 echoes/s", 128 / 165),
    "1M": ("470 and 2,250 MB/s", 470 / 2250),
    "roundtrip": ("20 and 14.8 µs", 14.8 / 20),
}


def _ours(peer: str) -> bool:
    return peer in PEERS and PEERS[peer].ours


def derived(summaries: Sequence[Summary]) -> str:
    """uvws next to EV::Websockets, by way of the yardstick; empty if there is nothing to derive."""
    lines = []
    for summary in summaries:
        found = summary.vs.get(YARDSTICK)
        if summary.row.name in ELSEWHERE and _ours(summary.peer) and found is not None:
            figures, other = ELSEWHERE[summary.row.name]
            own = found["median"]
            lines.append(
                [
                    *(summary.row.label, summary.peer, figures),
                    *(f"{other:.2f}", f"{own:.2f}", f"{own / other:.1f}"),
                ]
            )
    if not lines:
        return ""
    headings = ["load", "peer", f"EV::Websockets and {YARDSTICK}, elsewhere", "their ratio"]
    headings += [f"vs {YARDSTICK}, here", "vs EV::Websockets, derived"]
    return (
        f"### EV::Websockets, by way of {YARDSTICK}\n\n{table(headings, lines)}\n\n"
        f"EV::Websockets was not run here: the last column is the ratio to {YARDSTICK} here, "
        f"divided by the ratio of EV::Websockets to {YARDSTICK} on another machine.\n"
    )
