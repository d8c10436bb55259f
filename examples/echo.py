"""An echo server on a pyuv loop: every message goes back to where it came from.

Ctrl-C ends it, and every other example that serves.

    python examples/echo.py
    python -m websockets ws://127.0.0.1:8765/      # in another terminal
"""

import argparse
import signal
import sys

import uvws

try:
    import pyuv
except ImportError:
    sys.exit("This example runs on pyuv; docs/pyuv.md says how to install it.")


def main(port):
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            on_message=lambda connection, data: connection.send(data),
        )
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)

        # libuv waits in C, where Ctrl-C would not reach Python: have it watch for the signal.
        interrupt = pyuv.Signal(loop)
        interrupt.start(lambda *_: loop.stop(), signal.SIGINT)
        loop.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server on a pyuv loop.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    main(parser.parse_args().port)
