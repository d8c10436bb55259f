"""Rows: an echo endpoint of Starlette under uvicorn, with each implementation of WebSockets."""

from __future__ import annotations

from echo import echo
from harness import ASGI
from measuring import Row

TABLE = "Echo by an endpoint of Starlette, under uvicorn"
ROWS = [
    Row(
        *(f"asgi-{in_flight}", TABLE, f"64 B, 50 connections, {in_flight} in flight", "echoes"),
        *(echo(64, 50, in_flight), tuple(ASGI)),
    )
    for in_flight in (1, 32)
]
