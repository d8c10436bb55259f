"""Both ends on uvws, in one loop: `uvws_roundtrip.py pyuv|uvloop|asyncio`."""

from settings import roundtrip_settings
from stopwatch import Stopwatch
from uvws_loops import make_loop

import uvws

settings = roundtrip_settings()
loop, run = make_loop(settings.loop)
text = "x" * settings.size
context = uvws.Context(loop, ssl_ca=settings.certificate, proxy="")


def echo(connection: uvws.Connection, data: str | bytes) -> None:
    """Send a message back."""
    connection.send(data)


def answered(connection: uvws.Connection, data: str | bytes) -> None:
    """Go on to the next."""
    if watch.lap():
        connection.send(data)
    else:
        loop.stop()


listener = context.listen(
    host="127.0.0.1", ssl_cert=settings.certificate, ssl_key=settings.key, on_message=echo
)
scheme = "wss" if settings.certificate else "ws"
watch = Stopwatch(settings)
context.connect(
    f"{scheme}://127.0.0.1:{listener.port}",
    on_connect=lambda connection, _headers: connection.send(text),
    on_message=answered,
)
run()
watch.report()
context.close()
