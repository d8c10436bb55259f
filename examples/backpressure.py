"""A big download to a slow reader, with little memory at either end.

The server makes what it sends as it goes: until a megabyte is queued, then again when `on_drain`
says that the queue is empty. The reader holds off the server with `pause_recv` while it is busy;
TCP does the rest.

    python examples/backpressure.py                            # the server
    python examples/backpressure.py ws://127.0.0.1:8765/       # a slow reader
"""

import argparse
import asyncio
import contextlib
import itertools

import uvws

CHUNK = bytes(64 << 10)
CHUNKS = 1600  # a hundred megabytes
HIGH_WATER = 1 << 20


def begin(connection, _headers):
    connection.stash.update(chunks=itertools.repeat(CHUNK, CHUNKS), most=0)
    fill(connection)


def fill(connection):
    """Queue a megabyte of what is left, or close where nothing is."""
    stash = connection.stash
    while connection.send_queue_size < HIGH_WATER:
        chunk = next(stash["chunks"], None)
        if chunk is None:
            connection.close()
            break
        connection.send(chunk)
        stash["most"] = max(stash["most"], connection.send_queue_size)


def report(connection, code, _reason):
    print(f"Closed with {code}; at most {connection.stash['most']:,} bytes queued", flush=True)


async def serve(port):
    with uvws.Context() as context:
        listener = context.listen(
            port, host="127.0.0.1", on_connect=begin, on_drain=fill, on_close=report
        )
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        await asyncio.Event().wait()


async def read(url, pause):
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    received = 0

    def on_message(connection, data):
        nonlocal received
        received += len(data)
        connection.pause_recv()
        loop.call_later(pause, connection.resume_recv)

    with uvws.Context() as context:
        context.connect(
            url,
            on_message=on_message,
            on_close=lambda _connection, code, _reason: ended.set_result(code),
            on_error=lambda _connection, error: ended.set_exception(error),
        )
        code = await ended
    print(f"Received {received:,} bytes; closed with {code}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A big download to a slow reader, both ends.")
    parser.add_argument("url", nargs="?", help="be a slow reader of this server")
    parser.add_argument("--port", type=int, default=8765, help="where to serve")
    parser.add_argument("--pause", type=float, default=0.002, help="seconds for each message")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if arguments.url:
            asyncio.run(read(arguments.url, arguments.pause))
        else:
            asyncio.run(serve(arguments.port))
