"""Server on uvws: `uvws_server.py pyuv|uvloop|asyncio`."""

from settings import LEVEL, MEMORY_LEVEL, server_settings
from uvws_loops import make_loop

import uvws

settings = server_settings()
loop, run = make_loop(settings.loop)
context = uvws.Context(loop)


def echo(connection: uvws.Connection, data: str | bytes) -> None:
    """Send a message back."""
    connection.send(data)


def broadcast(_connection: uvws.Connection, data: str | bytes) -> None:
    """Send a message to everyone."""
    for connection in context.connections:
        connection.send(data)


listener = context.listen(
    port=0,
    host="127.0.0.1",
    ssl_cert=settings.certificate,
    ssl_key=settings.key,
    compression=uvws.Deflate(level=LEVEL, memory_level=MEMORY_LEVEL) if settings.deflate else None,
    max_message_size=0,  # no limits and no pings, as the peers are set
    max_send_queue=0,
    ping_interval=None,
    on_message=broadcast if settings.broadcast else echo,
)
print("PORT", listener.port, flush=True)
run()
