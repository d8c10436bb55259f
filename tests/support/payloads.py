"""Contents for messages."""

from __future__ import annotations

import functools
import random

# Around what the framing and the queues treat differently: 125 and 65535 bytes in the header
# (RFC 6455, section 5.2), 16 KiB to travel alone, 64 KiB to be sent in place, 128 KiB a read.
SIZES = (
    0,
    1,
    125,
    126,
    127,
    *(each + around for each in (1 << 12, 1 << 14, 1 << 16, 1 << 17) for around in (-1, 0, 1)),
    1 << 20,
)
_CHARACTERS = "aé€😀"  # one to four bytes


@functools.lru_cache(maxsize=64)
def binary(size: int) -> bytes:
    """Return bytes that repeat nowhere, the same ones for the same size."""
    return random.Random(size).randbytes(size)


def text(size: int) -> str:
    """Return a text of so many bytes of UTF-8, with characters of every length."""
    unit = len(_CHARACTERS.encode())
    return _CHARACTERS * (size // unit) + "z" * (size % unit)


def of_kind(kind: str, size: int) -> str | bytes:
    """Return a text or bytes."""
    return text(size) if kind == "text" else binary(size)
