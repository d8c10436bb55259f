"""Several applications on one port, told apart by the path of the request.

`on_handshake` refuses unknown paths with 404 before anything is upgraded; `on_connect` looks the
application up once, and `on_message` finds it in the connection's stash.

    python examples/router.py
    python -m websockets ws://127.0.0.1:8765/upper      # or /reverse, or /time
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

ROUTES = {
    "/upper": lambda connection, text: connection.send(text.upper()),
    "/reverse": lambda connection, text: connection.send(text[::-1]),
    "/time": lambda connection, _text: connection.send(time.strftime("%H:%M:%S")),
}


def on_handshake(headers):
    if headers["Path"] in ROUTES:
        return True
    return uvws.Reject(404, body=f"There is only {', '.join(ROUTES)}\n")


def on_connect(connection, headers):
    connection.stash["route"] = ROUTES[headers["Path"]]


def on_message(connection, data):
    if isinstance(data, bytes):
        connection.close(1003, "text messages only")
    else:
        connection.stash["route"](connection, data)


def main(port):
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            on_handshake=on_handshake,
            on_connect=on_connect,
            on_message=on_message,
        )
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        interrupt = pyuv.Signal(loop)
        interrupt.start(lambda *_: loop.stop(), signal.SIGINT)
        loop.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Several applications on one port, by path.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    main(parser.parse_args().port)
