"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Collection

import serverrows
from harness import PEERS, describe
from measuring import contestants
from report import Summary, derived, growth, markdown, summarise
from results import Results
from rows import NAMES, ROWS, SURVEYS


def summaries_of(results: Results, names: Collection[str] = NAMES) -> list[Summary]:
    """Every peer in every row that was measured, of those named."""
    samples = results.samples()
    return [
        summary
        for row in ROWS.values()
        if row.name in names and results.has_row(row.name)
        for peer in contestants(row, list(PEERS.values()))
        if (summary := summarise(samples, row, peer.name)) is not None
    ]


def _growths(results: Results, names: Collection[str]) -> list[str]:
    samples = results.samples()
    found = []
    for scale in serverrows.SCALE_ROWS:
        scaled = [row for row in scale if row.name in names and results.has_row(row.name)]
        if len(scaled) > 1:
            found.append(growth(samples, scaled, list(PEERS)))
    return found


def some(results: Results, names: Collection[str]) -> str:
    """Tables of the rows named."""
    summaries = summaries_of(results, names)
    parts = []
    if summaries:
        plans = [results.plan(name) for name in names if results.has_row(name)]
        parts.append(markdown(summaries, plans))
    parts += _growths(results, names)
    parts += [
        survey.markdown(found)
        for survey in SURVEYS.values()
        if survey.name in names and (found := results.survey(survey.name))
    ]
    parts.append(derived(summaries))
    parts.append("\n".join(describe(where) for where in results.environments()))
    return "\n".join(part for part in parts if part) + "\n"


def everything(results: Results) -> str:
    """Tables of all rows."""
    return some(results, NAMES)
