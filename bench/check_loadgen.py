"""Does the load generator notice? `python bench/check_loadgen.py [BINARY]`.

A small echo server, standard library only, that can be told to misbehave: the load generator must
pass the honest ones, however the bytes are cut up, and refuse every other with the right complaint.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from check_compression import check_compression
from check_modes import check_modes
from check_programs import check_programs
from check_tls import check_tls
from programs import build
from wire import CLOSE, Handler, answer_close, attempt, frame, read_frame, shake_hands

Faulty = Callable[[int, int, bytes], bytes]

# Around every change of the header's form and of the sizes of the load generator's own buffers.
SIZES = (0, 1, 7, 8, 9, 64, 125, 126, 127, 65535, 65536, 65537, 131072, 262144, 300001, 5 << 20)


def honest(_number: int, opcode: int, data: bytes) -> bytes:
    return frame(opcode, data)


def fragmented(_number: int, opcode: int, data: bytes) -> bytes:
    third = len(data) // 3
    return (
        frame(opcode, data[:third], fin=False)
        + frame(0, data[third : 2 * third], fin=False)
        + frame(0, b"", fin=False)
        + frame(0, data[2 * third :])
    )


@dataclass(frozen=True)
class Behaviour:
    """How the server acts."""

    reply: Faulty = honest
    dribble: int = 0
    status: bytes = b"101 Switching Protocols"
    accept: bytes = b""
    extra: bytes = b""


def serving(behaviour: Behaviour) -> Handler:
    """A server that acts like that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(
            reader,
            writer,
            status=behaviour.status,
            accept=behaviour.accept,
            extra=behaviour.extra,
        )
        number = 0
        while True:
            opcode, data = await read_frame(reader)
            if opcode == CLOSE:
                answer_close(writer, data)
                return
            out = behaviour.reply(number, opcode, data)
            number += 1
            step = behaviour.dribble or len(out) or 1
            for at in range(0, len(out), step):
                writer.write(out[at : at + step])
                await (asyncio.sleep(0) if behaviour.dribble else writer.drain())
            if not out:
                writer.close()
                return

    return serve


def at_third(make: Callable[[int, bytes], bytes]) -> Faulty:
    """Misbehave on a connection's third message."""

    def reply(number: int, opcode: int, data: bytes) -> bytes:
        return make(opcode, data) if number == 2 else frame(opcode, data)

    return reply


def swapped() -> Faulty:
    """Echo with the first message of all in place of the third."""
    first: list[bytes] = []

    def reply(number: int, opcode: int, data: bytes) -> bytes:
        first.append(data)
        return frame(opcode, first[0] if number == 2 else data)

    return reply


# By what must be said of it; with several messages under way, some show in either of two ways.
FAULTS: dict[str, Behaviour] = {
    "wrong content": Behaviour(at_third(lambda op, d: frame(op, d[:-1] + b"\x7f"))),
    "wrong sequence number": Behaviour(swapped()),
    "the echo is too short": Behaviour(at_third(lambda op, d: frame(op, d[:-1]))),
    "the echo is too long": Behaviour(at_third(lambda op, d: frame(op, d + b"x"))),
    "wrong opcode": Behaviour(at_third(lambda op, d: frame(3 - op, d))),
    "a message that was not sent|wrong sequence number": Behaviour(
        at_third(lambda op, d: 9 * frame(op, d))
    ),
    "the frame is masked": Behaviour(at_third(lambda op, d: frame(op, d, mask=0x80))),
    "a reserved bit is set": Behaviour(at_third(lambda op, d: frame(op, d, rsv=4))),
    "a ping or pong": Behaviour(at_third(lambda _op, d: frame(9, d))),
    "closed it with code 1011": Behaviour(at_third(lambda _op, _d: frame(8, b"\x03\xf3why"))),
    "the server ended it|Connection reset": Behaviour(at_third(lambda _op, _d: b"")),
    'answered "HTTP/1.1 403': Behaviour(status=b"403 Forbidden"),
    "Sec-WebSocket-Accept is not": Behaviour(accept=b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    "Protocol that was not offered": Behaviour(extra=b"Sec-WebSocket-Protocol: chat\r\n"),
    "Extensions that was not offered": Behaviour(
        extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    ),
}

USAGE = {
    "--port is needed": (),
    "--port takes": ("--port=0",),
    "whole number": ("--port=1", "--size=-1"),
    "from 1 to": ("--port=1", "--connections=0"),
    "takes seconds": ("--port=1", "--seconds=nan"),
    "unrecognized option": ("--port=1", "--fast"),
    "--mode takes echo, rotate": ("--port=1", "--mode=slow"),
    "--deflate is for text": ("--port=1", "--size=1024", "--deflate", "--binary"),
    "--deflate takes a --size": ("--port=1", "--size=8", "--deflate"),
    "what is": ("--port=1", "now"),
    "IPv4 address": ("--port=1", "--host=nowhere"),
}


async def check_usage(binary: Path) -> list[str]:
    """Wrong command lines: status 2 and the right complaint."""
    failures = []
    for expected, arguments in USAGE.items():
        process = await asyncio.create_subprocess_exec(
            str(binary), *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode != 2 or expected not in said.decode():
            failures.append(f"usage {arguments}: {process.returncode}, {said.decode()!r}")
    return failures


async def check_honest(binary: Path) -> list[str]:
    """Right echoes, in every shape, are accepted."""
    failures = []
    for size in SIZES:
        for kind in ("--text", "--binary"):
            for in_flight in (1, 3):
                options = (kind, f"--size={size}", f"--in-flight={in_flight}", "--connections=2")
                for behaviour in (Behaviour(), Behaviour(fragmented)):
                    status, said = await attempt(binary, serving(behaviour), *options)
                    if status != 0 or said:
                        failures.append(f"{behaviour.reply.__name__}, {options}: {status}, {said}")
    for step in (1, 2, 3, 5):
        for size in (0, 5, 64, 200, 70000 if step > 3 else 300):
            behaviour = Behaviour(fragmented, dribble=step)
            status, said = await attempt(
                binary, serving(behaviour), f"--size={size}", "--in-flight=2"
            )
            if status != 0 or said:
                failures.append(f"dribbled by {step}, {size} bytes: {status}, {said}")
    return failures


async def check_faults(binary: Path) -> list[str]:
    """Wrong ones are refused, for the right reason."""
    failures = []
    for expected, behaviour in FAULTS.items():
        for options in (("--in-flight=1",), ("--in-flight=4", "--binary", "--connections=3")):
            status, said = await attempt(binary, serving(behaviour), *options)
            if status != 1 or not any(words in said for words in expected.split("|")):
                failures.append(f"{expected!r} was not noticed, {options}: {status}, {said}")
    return failures


async def check(binary: Path) -> int:
    """Run everything; returns the exit code."""
    failures = await check_usage(binary) + await check_honest(binary) + await check_faults(binary)
    failures += await check_modes(binary, serving(Behaviour()))
    failures += await check_tls(binary, serving(Behaviour(fragmented)))
    failures += await check_compression(binary)
    failures += await check_programs()
    print("\n".join(failures) or "the load generator notices")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(check(Path(sys.argv[1]) if len(sys.argv) > 1 else build("loadgen"))))
