"""The time, once a second, to everybody who is connected.

Whoever does not keep up with reading is left out until it does, so that nothing piles up.

    python examples/broadcast.py
    python -m websockets ws://127.0.0.1:8765/        # any number of these
"""

import argparse
import signal
import sys
import time

import uvws

try:
    import pyuv
except ImportError:
    sys.exit("This example runs on pyuv; docs/pyuv.md says how to install it.")

BEHIND = 1 << 20  # queued bytes from which on a client is too slow to be sent more


def broadcast(context, text):
    for connection in context.connections:
        if connection.is_connected and connection.send_queue_size < BEHIND:
            connection.send(text)


def main(port, interval):
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        listener = context.listen(port, host="127.0.0.1")
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        timer = pyuv.Timer(loop)
        timer.start(lambda _: broadcast(context, time.strftime("%H:%M:%S")), 0, interval)
        interrupt = pyuv.Signal(loop)
        interrupt.start(lambda *_: loop.stop(), signal.SIGINT)
        loop.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The time, to everybody who is connected.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--interval", type=float, default=1, help="seconds")
    arguments = parser.parse_args()
    main(arguments.port, arguments.interval)
