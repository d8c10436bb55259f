"""Client on uvws: `uvws_client.py pyuv|uvloop|asyncio --url URL`; counts what it receives."""

import json

from settings import client_settings
from uvws_loops import make_loop

import uvws

settings = client_settings()
loop, run = make_loop(settings.loop)
messages = size = 0


def count(_connection: uvws.Connection, data: str | bytes) -> None:
    """One more."""
    global messages, size
    messages += 1
    size += len(data)


context = uvws.Context(loop, ssl_ca=settings.certificate, proxy="")
context.connect(
    settings.url,
    on_message=count,
    on_close=lambda *_: loop.stop(),
    on_error=lambda *_: loop.stop(),
)
run()
print(json.dumps({"messages": messages, "bytes": size}), flush=True)
context.close()
