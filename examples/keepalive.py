"""Pings at an interval: who has not answered by the next one is closed.

One timer serves all connections. The payload of a ping comes back in the pong: sending the time
gives the round trip.

    python examples/keepalive.py --interval 2
    python -m websockets ws://127.0.0.1:8765/     # stop that with Ctrl-Z and see it go
"""

import argparse
import signal
import struct
import sys
import time

import uvws

try:
    import pyuv
except ImportError:
    sys.exit("This example runs on pyuv; docs/pyuv.md says how to install it.")

CLOCK = struct.Struct("d")


def on_connect(connection, _headers):
    connection.stash["answered"] = True
    print(f"{connection.peer_address} is here", flush=True)


def on_pong(connection, payload):
    connection.stash["answered"] = True
    if len(payload) == CLOCK.size:  # a peer may send pongs of its own
        (sent,) = CLOCK.unpack(payload)
        round_trip = time.monotonic() - sent
        print(f"{connection.peer_address} answered in {round_trip * 1000:.2f} ms", flush=True)


def ping_all(context):
    for connection in context.connections:
        if not connection.is_connected:
            continue
        if connection.stash["answered"]:
            connection.stash["answered"] = False
            connection.send_ping(CLOCK.pack(time.monotonic()))
        else:
            print(f"{connection.peer_address} does not answer", flush=True)
            connection.close(1011, "no answer to a ping")


def main(port, interval):
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            on_connect=on_connect,
            on_pong=on_pong,
            on_close=lambda _connection, code, _reason: print("closed with", code, flush=True),
        )
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        timer = pyuv.Timer(loop)
        timer.start(lambda _timer: ping_all(context), interval, interval)
        interrupt = pyuv.Signal(loop)
        interrupt.start(lambda *_: loop.stop(), signal.SIGINT)
        loop.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pings at an interval.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--interval", type=float, default=20, help="seconds between pings")
    arguments = parser.parse_args()
    main(arguments.port, arguments.interval)
