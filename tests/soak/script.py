"""What is said on a stream, and what becomes of it: both ends know that beforehand.

Message number n of a stream and a direction is always the same one. The receiver makes it again and
compares all of it, which says more than a checksum does, and also of messages without a byte; where
there is room each one carries its number as well, so that a wrong one can be told from another.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

LARGEST = 1 << 20
_POOL = 2 * LARGEST
_NUMBERED = 16  # bytes or characters, from which on a message says its number
# How large messages get, and how many of a hundred; each with as many of every order of magnitude.
_HIGHEST = {0: 4, 1 << 10: 60, 1 << 16: 30, LARGEST: 6}


@functools.cache
def _bytes() -> bytes:
    """Half of it compresses well, half not at all, in turns of 4 KiB."""
    source = random.Random("bytes")
    return b"".join(
        source.randbytes(4096) + source.randbytes(8) * 512 for _ in range(_POOL // 8192)
    )


@functools.cache
def _text(alphabet: str) -> str:
    source = random.Random(alphabet)
    words = ["".join(source.choices(alphabet, k=source.randint(1, 9))) for _ in range(2000)]
    text = " ".join(source.choices(words, k=_POOL // 4))
    return (text + text)[:_POOL]


# And how many bytes of UTF-8 a character has at most.
_ALPHABETS = {"abcdefghijklmnop": 1, "aéîöß": 2, "a€\U0001f600é": 4}


class Script:
    """The messages that one end of a stream sends.

    Attributes:
        count: how many were taken so far.
    """

    def __init__(self, seed: int, stream: int, sender: str) -> None:
        self._of = seed, stream, sender
        self._random = random.Random(f"{seed}/{stream}/{sender}")
        self.count = 0

    def take(self) -> str | bytes:
        """Return the next message."""
        source = self._random
        size = self._size()
        at = source.randrange(_POOL - size)
        number = self.count
        self.count += 1
        if source.random() < 0.5:
            data = _bytes()[at : at + size]
            return b"%015d:" % number + data[_NUMBERED:] if size >= _NUMBERED else data
        alphabet, width = source.choice(tuple(_ALPHABETS.items()))
        part = _text(alphabet)[at : at + size // width]
        return f"{number:015d}:{part[_NUMBERED:]}" if len(part) >= _NUMBERED else part

    def find(self, data: str | bytes) -> str:
        """Say which message of this script something is, for an error."""
        again = Script(*self._of)
        for number in range(self.count + 1000):
            if again.take() == data:
                return f"number {number}"
        return f"none of this stream: {data[:40]!r}..., {len(data)} long"

    def _size(self) -> int:
        (highest,) = self._random.choices(tuple(_HIGHEST), tuple(_HIGHEST.values()))
        return int(highest ** self._random.random()) if highest else 0


@dataclass(frozen=True)
class Plan:
    """How a stream lives and ends.

    Attributes:
        tls: whether it goes over TLS.
        compressed: whether the client offers permessage-deflate.
        fragments: whether messages go in fragments at times.
        pings: whether the ends send pings.
        pauses: which ends stop reading at times: a set of "client" and "server".
        slow: such pauses are long.
        life: seconds until it is ended.
        ended_by: "client", "server", "both", or "nobody": then something else ends it.
        fault: what a foreign client does instead of closing: "reset", "drop" or "garbage"; or "".
    """

    tls: bool
    compressed: bool
    fragments: bool
    pings: bool
    pauses: frozenset[str]
    slow: bool
    life: float
    ended_by: str
    fault: str

    @classmethod
    def of(cls, seed: int, stream: int, shortest_life: float, longest_life: float) -> Plan:
        """Return the plan of a stream."""
        source = random.Random(f"{seed}/{stream}/plan")
        return cls(
            tls=source.random() < 0.4,
            compressed=source.random() < 0.3,
            fragments=source.random() < 0.3,
            pings=source.random() < 0.3,
            pauses=frozenset(side for side in ("client", "server") if source.random() < 0.25),
            slow=source.random() < 0.3,
            life=source.uniform(shortest_life, longest_life),
            ended_by=source.choice(("client", "server", "both")),
            fault=source.choice(("reset", "drop", "garbage", "", "", "")),
        )
