"""What the ends of streams write down, and what must be true of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# Who closes says so by the code.
CLOSE_CODES = {"client": 4001, "server": 4002}
PROTOCOL_ERROR, ABNORMAL = 1002, 1006


@dataclass
class Entry:
    """What one end of a stream has to say when it is over.

    Attributes:
        stream: its number.
        side: "client" or "server".
        kind: what this end was made of, and how it was connected, such as "uvws" or "relayed".
        sent: messages that were accepted for sending.
        offered: the same and one that perhaps was not.
        received: messages that came, all of them right and in order.
        code: of `on_close`; 0 where the connection was never open.
        closed: whether this end said close().
        fault: what it did instead.
        bytes_sent: characters count as one.
    """

    stream: int
    side: str
    kind: str
    sent: int = 0
    offered: int = 0
    received: int = 0
    code: int = 0
    closed: bool = False
    fault: str = ""
    bytes_sent: int = 0


class Ledger:
    """A file of a process's own; nothing of it stays in memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def write(self, entry: Entry) -> None:
        """Write down that an end is over."""
        self._line("entry", asdict(entry))

    def complain(self, stream: int, what: str) -> None:
        """Write down that something was seen that must not be."""
        self._line("fault", {"stream": stream, "what": what})

    def count(self, what: str) -> None:
        """Write down that something happened."""
        self._line("count", {"what": what})

    def _line(self, kind: str, content: dict[str, object]) -> None:
        self._file.write(json.dumps({"kind": kind, **content, "is": kind}) + "\n")
        self._file.flush()


class Books:
    """The ledgers of all processes, balanced.

    Attributes:
        faults: what is wrong, in words.
        counts: of messages, streams, ends and whatever else was counted.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self._open: dict[int, Entry] = {}
        for content in _lines(paths):
            what = content.pop("is")
            if what == "entry":
                self._add(Entry(**content))
            elif what == "fault":
                self.faults.append(f"stream {content['stream']}: {content['what']}")
            else:
                self.counts[content["what"]] += 1
        for left in self._open.values():
            self._alone(left)

    def _add(self, entry: Entry) -> None:
        self.counts[f"{entry.side}s of kind {entry.kind}"] += 1
        self.counts["messages sent"] += entry.sent
        self.counts["messages delivered"] += entry.received
        self.counts["characters sent"] += entry.bytes_sent
        self.counts[f"ended with {entry.code} at the {entry.side}"] += 1
        other = self._open.pop(entry.stream, None)
        if other is None:
            self._open[entry.stream] = entry
        elif other.side == entry.side:
            self.faults.append(f"stream {entry.stream}: two ends are {entry.side}")
        else:
            self.counts["streams with both ends"] += 1
            for fault in _judge(entry, other):
                self.faults.append(f"stream {entry.stream}: {fault}; {entry}; {other}")

    def _alone(self, entry: Entry) -> None:
        """The other end was killed, or never opened."""
        self.counts[f"streams with a {entry.side} only"] += 1
        if entry.side == "client" and entry.received:
            self.faults.append(f"stream {entry.stream}: no server, and yet {entry}")


def _lines(paths: Iterable[Path]) -> Iterator[dict[str, object]]:
    for path in paths:
        with path.open() as file:
            for line in file:
                if line.endswith("\n"):  # a killed process may have left half of one
                    yield json.loads(line)


def _judge(one: Entry, other: Entry) -> Iterator[str]:
    for sender, receiver in ((one, other), (other, one)):
        if receiver.received > sender.offered:
            yield f"the {receiver.side} received more than was sent"
        ended_well = receiver.code == CLOSE_CODES[sender.side] and not receiver.closed
        if ended_well and receiver.received != sender.sent:
            yield f"the {sender.side} closed in good order, and not all arrived"
        if ended_well and not sender.closed:
            yield f"the {receiver.side} was told of a close() that was not"
        if sender.fault == "garbage" and not receiver.closed and receiver.code != PROTOCOL_ERROR:
            yield "garbage did not end the connection with 1002"
    faultless = {one.kind, other.kind} == {"uvws"} and not (one.closed or other.closed)
    if faultless and (one.code or other.code):
        yield "nobody ended the connection"
