"""Client on aiohttp and uvloop; counts what it receives, undecoded."""

import json

import aiohttp
import uvloop
from settings import client_settings, client_tls

settings = client_settings()
messages = size = 0


async def main() -> None:
    """Receive until the server closes."""
    global messages, size
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            settings.url, ssl=client_tls(settings) or True, max_msg_size=0, decode_text=False
        ) as ws,
    ):
        async for message in ws:
            messages += 1
            size += len(message.data)


uvloop.run(main())
print(json.dumps({"messages": messages, "bytes": size}), flush=True)
