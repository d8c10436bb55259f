"""What is printed and kept of a number of runs."""

from __future__ import annotations

import platform
import ssl
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone

import uvws

from .python2 import PACKAGES
from .suite import Outcome, Run, Verdict

_COLUMNS = ("OK", "NON-STRICT", "INFORMATIONAL")
# Why a case is not plainly OK, by how its number begins; for others there are wstest's words.
_LEFT_OPEN = "The RFC leaves open what becomes of a Close frame with such a code."
_BROKEN_BEHIND = (
    "A message stands in front of a frame that breaks the rules. Where both arrive in one read, "
    "the connection has failed by the time the message is delivered; its echo is not sent any more."
)
_REASONS = {
    "3.": _BROKEN_BEHIND,
    "4.": _BROKEN_BEHIND,
    "5.15": _BROKEN_BEHIND,
    "7.1.6": "A Close frame stands behind a message of 256 KiB; the echo need not come before the "
    "answer to it.",
    "7.13.1": _LEFT_OPEN,
    "7.13.2": _LEFT_OPEN,
}


def summary(outcomes: Sequence[Outcome], failures: Sequence[str]) -> str:
    """Return the table, the verdicts that are not OK, and what went wrong, as Markdown."""
    parts = [_table(_merged(outcomes)), _not_ok(outcomes)]
    if failures:
        parts.append("## Did not run\n\n" + "\n\n".join(f"    {line}" for line in failures))
    return "\n\n".join(part for part in parts if part) + "\n"


def page(outcomes: Sequence[Outcome], failures: Sequence[str], command: str) -> str:
    """Return the page for the documentation."""
    return _HEAD.format(run=_run(command)) + summary(outcomes, failures)


_HEAD = """\
# Autobahn

[Autobahn's test suite](https://github.com/crossbario/autobahn-testsuite), `wstest`, tests what a
WebSocket server or client does with what it gets, against RFC 6455 and RFC 7692. `make autobahn`
runs all of its cases against both roles of uvws, plain and over TLS, prints the summary below and
writes this page. `wstest` needs Python 2.7: one on the PATH, one of pyenv's, or `make autobahn
PYTHON2=/path/to/python2.7`. Its own reports, with each frame, are in `build/autobahn/reports`.

The loops differ in their adapters only, so that every case runs on uvloop, and on pyuv and asyncio
all but most of the compression. `make test` does the latter too, plain: `tests/test_autobahn.py`.
Some of it at a time:

    make autobahn ARGS="--cases '1.*' --roles server --transports tls --loops pyuv"

The last run: {run}.

"""


def _run(command: str) -> str:
    now = datetime.now(timezone.utc)
    tested = f"uvws {uvws.__version__} with libwebsockets {uvws.LWS_VERSION}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    peer = " ".join(name.replace("==", " ") for name in PACKAGES[:2])
    return f"{now:%Y-%m-%d}, `{command}`, {tested}, {python}, {ssl.OPENSSL_VERSION}; {peer}"


def _merged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Put together what several processes did of one run."""
    by_run: dict[Run, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_run[outcome.run].append(outcome)
    return [
        Outcome(
            run,
            frozenset().union(*(part.wanted for part in parts)),
            tuple(sorted(verdict for part in parts for verdict in part.verdicts)),
            sum(part.seconds for part in parts),
        )
        for run, parts in by_run.items()
    ]


def _table(outcomes: Sequence[Outcome]) -> str:
    names = ("cases", "OK", "NON-STRICT", "INFORMATIONAL", "other")
    closing_names = ("closing OK", "INFORMATIONAL", "other", "not run", "seconds")
    lines = [
        "| " + " | ".join(("role", "transport", "loop", *names, *closing_names)) + " |",
        "| --- | --- | --- " + "| ---: " * (len(names) + len(closing_names)) + "|",
    ]
    for outcome in outcomes:
        run = outcome.run
        behavior = Counter(verdict.behavior for verdict in outcome.verdicts)
        closing = Counter(verdict.closing for verdict in outcome.verdicts)
        count = len(outcome.verdicts)
        cells = (
            *(run.role, run.transport, run.loop, len(outcome.wanted)),
            *(behavior[column] for column in _COLUMNS),
            count - sum(behavior[column] for column in _COLUMNS),
            *(closing["OK"], closing["INFORMATIONAL"]),
            count - closing["OK"] - closing["INFORMATIONAL"],
            *(len(outcome.missing), round(outcome.seconds)),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _not_ok(outcomes: Sequence[Outcome]) -> str:
    by_case: dict[tuple[int, ...], list[tuple[Run, Verdict]]] = defaultdict(list)
    ran: Counter[tuple[int, ...]] = Counter()
    for outcome in outcomes:
        for verdict in outcome.verdicts:
            ran[verdict.case] += 1
            if not verdict.is_ok:
                by_case[verdict.case].append((outcome.run, verdict))
    if not by_case:
        return ""
    lines = [
        "## Not plainly OK",
        "",
        "| case | behaviour / closing | runs | why |",
        "| --- | --- | --- | --- |",
    ]
    for case, found in sorted(by_case.items()):
        kinds = sorted({f"{verdict.behavior} / {verdict.closing}" for _, verdict in found})
        verdict = found[0][1]
        where = f"{len(found)} of {ran[case]}"
        bad = [run.name for run, verdict in found if not verdict.is_good]
        if bad:
            where += f" ({', '.join(bad)})"
        lines.append(f"| {verdict.name} | {', '.join(kinds)} | {where} | {_reason(found)} |")
    return "\n".join(lines)


def _reason(found: Sequence[tuple[Run, Verdict]]) -> str:
    verdicts = [verdict for _, verdict in found]
    bad = [verdict for verdict in verdicts if not verdict.is_good]
    if not bad:
        for beginning, reason in _REASONS.items():
            if verdicts[0].name.startswith(beginning):
                return reason
    words = (bad or verdicts)[0].reason
    return " ".join(words.replace("|", "/").split())
