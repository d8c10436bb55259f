"""Server on websockets' asyncio implementation and uvloop: text is echoed without being decoded."""

import uvloop
from settings import LEVEL, MEMORY_LEVEL, server_settings, server_tls
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

settings = server_settings()
text = not settings.binary
deflate = ServerPerMessageDeflateFactory(
    compress_settings={"level": LEVEL, "memLevel": MEMORY_LEVEL}
)


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    try:
        while True:
            await connection.send(await connection.recv(decode=False), text=text)
    except ConnectionClosed:
        pass


async def tell_all(connection: ServerConnection) -> None:
    """Send every message to everyone."""
    async for message in connection:
        broadcast(connection.server.connections, message)


async def main() -> None:
    """Serve until killed."""
    async with serve(
        tell_all if settings.broadcast else echo,
        "127.0.0.1",
        0,
        ssl=server_tls(settings),
        compression=None,
        extensions=[deflate] if settings.deflate else None,
        ping_interval=None,
        max_size=None,
        max_queue=None,
        write_limit=2**22,
        backlog=1024,
    ) as server:
        print("PORT", next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(main())
