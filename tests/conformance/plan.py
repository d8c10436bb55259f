"""What there is to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .suite import ROLES, TRANSPORTS, Run

_PROTOCOL = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
# The kinds of data of chapter 12, and the ways to negotiate of chapter 13.
_COMPRESSION = (*(f"12.{kind}" for kind in range(1, 6)), *(f"13.{way}" for way in range(1, 8)))

# All that there is, in parts that can run side by side: compression takes nearly all of the time.
EVERYTHING = (_PROTOCOL, ("9.*",), *((f"{part}.*",) for part in _COMPRESSION))

# All but most of the compression: of that, messages of 64 bytes, and of 8 KiB in fragments.
QUICK = (*_PROTOCOL, "9.*", *(f"{part}.{size}" for part in _COMPRESSION for size in (2, 11)))
QUICK_COUNT = 325


@dataclass(frozen=True)
class Job:
    """Cases for one process of wstest.

    Attributes:
        run: what is tested.
        cases: numbers of cases, or patterns.
    """

    run: Run
    cases: tuple[str, ...]


def whole_plan() -> Iterator[Job]:
    """Everything on uvloop; on the other loops, whose adapters alone differ, the quick subset."""
    yield from jobs(ROLES, TRANSPORTS, ("uvloop",), EVERYTHING)
    yield from jobs(ROLES, TRANSPORTS, ("pyuv", "asyncio"), (QUICK,))


def jobs(
    roles: Sequence[str],
    transports: Sequence[str],
    loops: Sequence[str],
    parts: Sequence[tuple[str, ...]],
) -> Iterator[Job]:
    """Every combination."""
    for loop in loops:
        for transport in transports:
            for role in roles:
                for part in parts:
                    yield Job(Run(role, transport, loop), part)
