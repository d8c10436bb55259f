"""Server on uvicorn and uvloop: an endpoint of Starlette sends back what comes.

The first argument says what carries the WebSockets: uvws, or one of uvicorn's own implementations.
"""

import asyncio
import warnings

import uvicorn
from settings import server_settings
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

settings = server_settings()
implementation = settings.loop
if implementation == "uvws":
    implementation = "uvws.uvicorn:WebSocketProtocol"
warnings.simplefilter("ignore")  # one of them is called deprecated


async def echo(ws: WebSocket) -> None:
    """Send every message back."""
    await ws.accept()
    try:
        if settings.binary:
            while True:
                await ws.send_bytes(await ws.receive_bytes())
        else:
            while True:
                await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        pass


async def main() -> None:
    """Serve until killed."""
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/{path:path}", echo)]),
        host="127.0.0.1",
        port=0,
        backlog=1024,
        log_level="error",
        lifespan="off",
        ws=implementation,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("PORT", server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
