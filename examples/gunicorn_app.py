"""A WSGI application under gunicorn whose upgrade requests become WebSockets.

gunicorn reads the request; the socket behind it then goes to a uvws context, whose loop runs in a
thread of the worker. Plain (sync) workers will do, and so do threads: a worker is free for its next
request at once, however many WebSockets it has.

    python examples/gunicorn_app.py --workers 2 --bind 127.0.0.1:8765
    cd examples && gunicorn gunicorn_app:app        # the same, by gunicorn's own command

Not with --preload, since threads do not survive a fork, and not with TLS done by gunicorn.
"""

import asyncio
import atexit
import os
import socket
import sys
import threading
from pathlib import Path

import uvws


class WebSocketThread:
    """A thread with a loop and a context; all that is uvws's happens there."""

    def __init__(self):
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._started.wait()
        atexit.register(self._stop)

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        with uvws.Context() as self._context:
            self._started.set()
            await self._stopping.wait()

    def _stop(self):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def adopt(self, sock, **options):
        """Call `Context.adopt` on that thread; raises what it raises."""

        async def adopt():
            self._context.adopt(sock, **options)

        asyncio.run_coroutine_threadsafe(adopt(), self._loop).result()


def app(environ, start_response):
    if environ.get("HTTP_UPGRADE", "").lower() != "websocket":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"Talk WebSocket to me.\n"]
    taken = environ["gunicorn.socket"]
    with taken.dup() as ours:  # where adopt fails, this closes it and gunicorn answers
        websockets.adopt(
            ours,
            initial_data=request_head(environ),
            on_message=lambda connection, data: connection.send(data),
        )
    leave_nothing_in(taken)
    start_response("101 Switching Protocols", [])  # for the access log
    return []


def request_head(environ):
    """Put the request together again as the client sent it."""
    lines = [f"GET {environ['RAW_URI']} HTTP/1.1"]
    lines += [
        f"{name[5:].replace('_', '-')}: {value}"
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def leave_nothing_in(sock):
    """Have gunicorn's socket lead nowhere: it will write to it, shut it down and close it."""
    nowhere, other_end = socket.socketpair()
    with nowhere, other_end:
        os.dup2(nowhere.fileno(), sock.fileno(), inheritable=False)


if __name__ == "__main__":
    try:
        from gunicorn.app.wsgiapp import run
    except ImportError:
        sys.exit("This example runs under gunicorn: pip install gunicorn")
    here = Path(__file__)
    sys.argv[1:1] = ["--chdir", str(here.parent), f"{here.stem}:app"]
    run()
else:  # imported by a worker
    websockets = WebSocketThread()
