"""A client that stays connected: it comes back after each loss, sooner or later.

The wait before an attempt doubles with each failure up to a limit, and is a random part of that
("full jitter"), so that the clients of a server that restarts do not all come at the same moment.

    python examples/echo.py                                # stop and start this one
    python examples/reconnect.py ws://127.0.0.1:8765/      # in another terminal
"""

import argparse
import asyncio
import contextlib
import random

import uvws


def log(text):
    print(text, flush=True)


async def stay_while_it_lasts(context, url):
    """Connect once; return when that has ended, with whether it ever was open."""
    ended = asyncio.get_running_loop().create_future()

    def on_connect(connection, _headers):
        log("connected")
        connection.send("hello again")

    def on_error(connection, error):
        log(f"failed: {error}")
        if connection.state is uvws.State.CLOSED:  # else on_close is still to come
            ended.set_result(False)

    def on_close(_connection, code, reason):
        log(f"closed with {code} {reason}".rstrip())
        ended.set_result(True)

    context.connect(
        url,
        connect_timeout=10,
        on_connect=on_connect,
        on_message=lambda _connection, data: log(f"received {data!r}"),
        on_error=on_error,
        on_close=on_close,
    )
    return await ended


async def main(url, first, longest):
    failures = 0
    with uvws.Context() as context:
        while True:
            was_open = await stay_while_it_lasts(context, url)
            failures = 1 if was_open else failures + 1
            wait = random.uniform(0, min(longest, first * 2 ** (failures - 1)))
            log(f"next attempt in {wait:.2f} s")
            await asyncio.sleep(wait)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A client that reconnects by itself.")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8765/")
    parser.add_argument("--first", type=float, default=0.5, help="seconds, at most, at first")
    parser.add_argument("--longest", type=float, default=30, help="seconds, at most, ever")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(arguments.url, arguments.first, arguments.longest))
