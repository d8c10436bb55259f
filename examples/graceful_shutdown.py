"""A server that leaves politely on SIGINT and SIGTERM.

It stops accepting, tells every client that it is going away (1001), waits for their answers until
a deadline, and drops whoever has not answered by then.

    python examples/graceful_shutdown.py --deadline 3
    python -m websockets ws://127.0.0.1:8765/         # some of these; then Ctrl-C the server

It runs on uvloop where that is installed, else on asyncio's own loop.
"""

import argparse
import asyncio
import contextlib
import signal

import uvws

try:
    from uvloop import run
except ImportError:
    from asyncio import run


async def main(port, deadline):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    empty = asyncio.Event()

    def on_close(*_):
        if not context.connections:
            empty.set()

    with uvws.Context() as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            on_message=lambda connection, data: connection.send(data),
            on_close=on_close,
        )
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        await stop.wait()

        listener.close()
        leaving = context.connections
        for connection in leaving:
            connection.close(1001, "the server is going away")
        if leaving:
            empty.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(empty.wait(), deadline)
        left = len(context.connections)
        print(f"{len(leaving) - left} said goodbye, {left} did not answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server that leaves politely.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--deadline", type=float, default=3, help="seconds to wait for answers")
    arguments = parser.parse_args()
    run(main(arguments.port, arguments.deadline))
