"""Client on websockets' asyncio implementation and uvloop; counts what it receives, undecoded."""

import json

import uvloop
from settings import client_settings, client_tls
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

settings = client_settings()
messages = size = 0


async def main() -> None:
    """Receive until the server closes."""
    global messages, size
    async with connect(
        settings.url,
        ssl=client_tls(settings),
        compression=None,
        ping_interval=None,
        max_size=None,
        max_queue=1024,
        proxy=None,
    ) as connection:
        try:
            while True:
                data = await connection.recv(decode=False)
                messages += 1
                size += len(data)
        except ConnectionClosed:
            pass


uvloop.run(main())
print(json.dumps({"messages": messages, "bytes": size}), flush=True)
