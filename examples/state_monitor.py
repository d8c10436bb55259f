"""The life of a connection: what its state is in each callback, and what it can do there.

It is on a pyuv loop, whose `run` returns when there is no listener and no connection left.

    python examples/state_monitor.py                             # with a server of its own
    python examples/state_monitor.py ws://127.0.0.1:8765/        # examples/echo.py, say
"""

import argparse
import sys

import uvws

try:
    import pyuv
except ImportError:
    sys.exit("This example runs on pyuv; docs/pyuv.md says how to install it.")


def show(where, connection):
    try:
        connection.send("hello")
        note = "sends"
    except uvws.ConnectionClosed as error:
        note = error
    print(f"{where:<18} {connection.state:<11} {note}", flush=True)


def main(url):
    loop = pyuv.Loop.default_loop()
    context = uvws.Context(loop)
    listener = context.listen(
        host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
    )

    def on_message(connection, _data):
        show("in on_message", connection)
        connection.close(1000, "seen enough")
        show("after close()", connection)

    def on_close(connection, code, reason):
        show("in on_close", connection)
        print(f"                   closed with {code} ({reason})")
        listener.close()  # the last thing that keeps the loop running

    def on_error(connection, error):
        show("in on_error", connection)
        print(f"                   {error!r}")
        listener.close()

    connection = context.connect(
        url or f"ws://127.0.0.1:{listener.port}/",
        on_connect=lambda connection, _headers: show("in on_connect", connection),
        on_message=on_message,
        on_close=on_close,
        on_error=on_error,
    )
    show("after connect()", connection)
    loop.run()
    show("after loop.run()", connection)
    context.close()
    show("after the context", connection)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The states of a connection.")
    parser.add_argument("url", nargs="?", help="a server that echoes; default: one of its own")
    main(parser.parse_args().url)
