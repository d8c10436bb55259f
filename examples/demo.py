"""An echo server on a pyuv loop, with three kinds of clients: what `make demo` shows.

One client is uvws's own on the same loop; one is made by the `websockets` package, in a thread of
its own; the last ones are several of uvws's that keep the server busy, for the figures at the end.
"""

import asyncio
import statistics
import sys
import threading
import time

import pyuv
import websockets

import uvws

MESSAGES = 20_000
BUSY_CLIENTS = 8
IN_FLIGHT = 32
ROUND_TRIPS = 5_000
PAYLOAD = "x" * 64


def say(text=""):
    print(text, flush=True)


def show_own_client(loop, context, url):
    """Greet the server, see the greeting come back, and close."""

    def on_connect(connection, headers):
        say(f"  connected; the server accepted with {headers['Sec-WebSocket-Accept']!r}")
        connection.send("Grüße from uvws")
        connection.send(b"\x00\x01\x02")

    def on_message(connection, data):
        kind = "text" if isinstance(data, str) else "binary"
        say(f"  {kind} message came back: {data!r}")
        if kind == "binary":
            connection.close(1000, "that was all")

    def on_close(_connection, code, reason):
        say(f"  closed with {code} ({reason})")
        loop.stop()

    say(f"A client of uvws connects to {url}:")
    context.connect(
        url, on_connect=on_connect, on_message=on_message, on_close=on_close, on_error=fail
    )
    loop.run()


def show_websockets_client(loop, url):
    """Have the `websockets` package talk to the server from another thread."""

    async def talk():
        async with websockets.connect(url) as connection:
            for message in ("Hello from websockets", "x" * 1_000_000):
                await connection.send(message)
                assert await connection.recv() == message
                say(f"  a message of {len(message):,} bytes came back")

    def run():
        try:
            asyncio.run(talk())
        finally:
            done.send()

    say("\nA client of the `websockets` package, in another thread:")
    done = pyuv.Async(loop, lambda handle: (handle.close(), loop.stop()))
    thread = threading.Thread(target=run)
    thread.start()
    loop.run()
    thread.join()


def measure_throughput(loop, context, url):
    """Several clients keep many messages in flight; returns messages per second."""
    left = MESSAGES
    began = 0.0

    def on_connect(connection, _headers):
        nonlocal began
        began = began or time.perf_counter()
        for _ in range(IN_FLIGHT):
            connection.send(PAYLOAD)

    def on_message(connection, data):
        nonlocal left
        left -= 1
        if left > 0:
            connection.send(data)
        elif left == 0:
            loop.stop()

    clients = [
        context.connect(url, on_connect=on_connect, on_message=on_message, on_error=fail)
        for _ in range(BUSY_CLIENTS)
    ]
    loop.run()
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    return MESSAGES / took


def measure_round_trips(loop, context, url):
    """One client sends, waits for the echo, and sends again; returns each time in microseconds."""
    times = []
    sent = 0.0

    def send(connection, _data):
        nonlocal sent
        now = time.perf_counter()
        if sent:
            times.append((now - sent) * 1e6)
        if len(times) == ROUND_TRIPS:
            connection.close()
            loop.stop()
            return
        sent = time.perf_counter()
        connection.send(PAYLOAD)

    context.connect(url, on_connect=send, on_message=send, on_error=fail)
    loop.run()
    return times


def fail(_connection, error):
    say(f"  failed: {error!r}")
    sys.exit(1)


def main():
    say(f"uvws {uvws.__version__}, libwebsockets {uvws.LWS_VERSION}, pyuv {pyuv.__version__}\n")
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        server = context.listen(
            host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
        )
        url = f"ws://127.0.0.1:{server.port}/"
        show_own_client(loop, context, url)
        show_websockets_client(loop, url)

        say(f"\nEchoes of {len(PAYLOAD)} bytes, server and clients in this one process:")
        rate = measure_throughput(loop, context, url)
        times = measure_round_trips(loop, context, url)
        p50, p99 = (statistics.quantiles(times, n=100)[n] for n in (49, 98))
        say(
            f"  {rate:,.0f} messages/s with {BUSY_CLIENTS} clients, {IN_FLIGHT} in flight each; "
            f"round trip of one at a time p50 {p50:.0f} µs, p99 {p99:.0f} µs"
        )


if __name__ == "__main__":
    main()
