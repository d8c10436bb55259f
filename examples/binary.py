"""Binary messages: numbers go in as they lie in memory, statistics come back packed.

`send` makes a text message of a str and a binary one of anything bytes-like, here an `array`;
`on_message` gets str or bytes accordingly. This server takes float64 numbers, answers with a
struct, and closes with 1003 ("unsupported data") on text.

    python examples/binary.py                            # the server
    python examples/binary.py ws://127.0.0.1:8765/       # a client, in another terminal
"""

import argparse
import asyncio
import contextlib
import random
import struct
from array import array

import uvws

STATISTICS = struct.Struct("=Q3d")  # how many, the smallest, the largest, their mean


def answer(connection, data):
    if isinstance(data, str):
        connection.close(1003, "binary messages only")
        return
    numbers = array("d")
    try:
        numbers.frombytes(data)
        summary = len(numbers), min(numbers), max(numbers), sum(numbers) / len(numbers)
    except ValueError as error:  # part of a number, or none at all
        connection.close(1007, str(error))
    else:
        connection.send(STATISTICS.pack(*summary))


async def serve(port):
    with uvws.Context() as context:
        listener = context.listen(port, host="127.0.0.1", on_message=answer)
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        await asyncio.Event().wait()


async def ask(url):
    summary = asyncio.get_running_loop().create_future()
    numbers = array("d", (random.gauss(0, 1) for _ in range(100_000)))
    with uvws.Context() as context:
        context.connect(
            url,
            on_connect=lambda connection, _headers: connection.send(numbers),
            on_message=lambda _connection, data: summary.set_result(STATISTICS.unpack(data)),
            on_error=lambda _connection, error: summary.set_exception(error),
        )
        count, least, most, mean = await summary
    print(f"{count:,} numbers from {least:.2f} to {most:.2f}, on average {mean:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Binary messages, both ends.")
    parser.add_argument("url", nargs="?", help="be a client of this server")
    parser.add_argument("--port", type=int, default=8765, help="where to serve")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(ask(arguments.url) if arguments.url else serve(arguments.port))
