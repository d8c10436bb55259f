"""Server on uvws.aio and uvloop, with a coroutine for each connection."""

import uvloop
from settings import server_settings

from uvws.aio import ServerConnection, serve

settings = server_settings()


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Serve until killed."""
    async with serve(
        echo, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None
    ) as server:
        print("PORT", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(main())
