"""Both ends on uvws.aio, in one uvloop."""

import uvloop
from settings import roundtrip_settings
from stopwatch import Stopwatch

from uvws.aio import ServerConnection, connect, serve

settings = roundtrip_settings()
watch = Stopwatch(settings)


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Run until the time is over."""
    async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}",
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
