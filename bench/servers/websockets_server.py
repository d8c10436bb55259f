"""Echo server on websockets' asyncio implementation and uvloop."""

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Serve until killed."""
    async with serve(
        echo,
        "127.0.0.1",
        0,
        compression=None,
        ping_interval=None,
        max_size=None,
        backlog=1024,
    ) as server:
        print("PORT", next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(main())
