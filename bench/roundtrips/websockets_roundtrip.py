"""Both ends on websockets' asyncio implementation, in one uvloop."""

import uvloop
from settings import client_tls, roundtrip_settings, server_tls
from stopwatch import Stopwatch
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

settings = roundtrip_settings()
watch = Stopwatch(settings)


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Run until the time is over."""
    async with serve(
        echo, "127.0.0.1", 0, ssl=server_tls(settings), compression=None, ping_interval=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        scheme = "wss" if settings.certificate else "ws"
        async with connect(
            f"{scheme}://127.0.0.1:{port}",
            ssl=client_tls(settings),
            compression=None,
            ping_interval=None,
            proxy=None,
        ) as client:
            data = "x" * settings.size
            while True:
                await client.send(data)
                await client.recv()
                if not watch.lap():
                    break
        watch.report()


uvloop.run(main())
