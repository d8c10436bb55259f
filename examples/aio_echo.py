"""An echo server with async/await, and a client that comes back when it is stopped.

python examples/aio_echo.py                                  # serves
python examples/aio_echo.py --connect ws://127.0.0.1:8765/   # in another terminal
"""

import argparse
import asyncio
import contextlib
import signal

from uvws import aio


def runner():
    """Runs a coroutine, on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def echo(connection):
    print(f"connected: {connection.remote_address}", flush=True)
    async for message in connection:
        await connection.send(message)
    print(f"closed with {connection.close_code}", flush=True)


async def serve(port):
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aio.serve(echo, "127.0.0.1", port) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"Echoing on ws://127.0.0.1:{port}/", flush=True)
        await stop.wait()


async def stay_connected(url, most):
    count = 0
    async for connection in aio.connect(url):  # again after each loss
        with contextlib.suppress(aio.ConnectionClosed):
            while count < most:
                await connection.send(f"message {count}")
                print(f"received {await connection.recv()!r}", flush=True)
                count += 1
                await asyncio.sleep(0.1)
            await connection.close()
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server or its client.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--connect", metavar="URL", help="be a client of this server")
    parser.add_argument("--most", type=int, default=100, help="messages that the client sends")
    arguments = parser.parse_args()
    if arguments.connect:
        main = stay_connected(arguments.connect, arguments.most)
    else:
        main = serve(arguments.port)
    with contextlib.suppress(KeyboardInterrupt):
        runner()(main)
