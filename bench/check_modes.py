"""Are the load generator's other modes right? Part of `check_loadgen.py`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from wire import CLOSE, Handler, answer_close, attempt, frame, read_frame, shake_hands, verdict


def broadcasting(fault: str = "") -> Handler:
    """A server that sends each message to everyone; the third is wrong in the way told."""
    everyone: list[asyncio.StreamWriter] = []
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await shake_hands(reader, writer)
        everyone.append(writer)
        while True:
            opcode, data = await read_frame(reader)
            if opcode == CLOSE:
                answer_close(writer, data)
                everyone.remove(writer)
                return
            count += 1
            for each in everyone:
                each.write(frame(opcode, data))
            if count == 3 and fault == "twice":
                everyone[-1].write(frame(opcode, data))
            if count == 3 and fault == "other":
                everyone[-1].write(frame(opcode, b"x" * len(data)))

    return serve


async def check_modes(binary: Path, honest: Handler) -> list[str]:
    """Broadcasts, connections that take turns, opening, and holding."""
    failures = []
    for options in (
        ("--mode=rotate", "--connections=7"),
        ("--mode=rotate", "--connections=7", "--in-flight=30"),
        ("--mode=rotate", "--connections=1", "--in-flight=5", "--size=300001"),
        ("--mode=open", "--connections=200"),
        ("--mode=connections", "--connections=200"),
    ):
        failures += verdict(f"{options}", "", await attempt(binary, honest, *options))
    for in_flight in ("--in-flight=1", "--in-flight=5"):
        options = ("--mode=broadcast", "--connections=20", in_flight)
        failures += verdict("broadcast", "", await attempt(binary, broadcasting(), *options))
        for fault, expected in (
            ("twice", "a message that was not sent|wrong sequence number"),
            ("other", "a message that was not sent|wrong sequence number"),
        ):
            got = await attempt(binary, broadcasting(fault), *options)
            failures += verdict(f"broadcast, {fault}", expected, got)
    return failures
