"""Rows: coroutines for each connection, as most servers on asyncio have them."""

from __future__ import annotations

from echo import LOADS, echo
from harness import WITH_COROUTINES
from measuring import Row
from programs import FLOOR
from roundtriprows import LABEL, roundtrip

TABLE = "Echo and round trip with async/await, on uvloop"
ROWS = [
    *(
        Row(f"aio-{name}", TABLE, label, "echoes", echo(*load), WITH_COROUTINES, floor=FLOOR)
        for name, (label, *load) in LOADS.items()
        if name in ("64B-1", "64B-32", "64K")
    ),
    Row(
        *("aio-roundtrip", TABLE, f"round trip of {LABEL}", "round trips"),
        *(roundtrip(tls=False), WITH_COROUTINES),
        floor=FLOOR,
    ),
]
