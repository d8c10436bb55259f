"""Echo server on aiohttp and uvloop: text is echoed as bytes, without being decoded."""

import asyncio

import uvloop
from aiohttp import web


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    ws = web.WebSocketResponse(
        compress=False, max_msg_size=0, heartbeat=None, decode_text=False, writer_limit=2**22
    )
    await ws.prepare(request)
    async for message in ws:
        await ws.send_frame(message.data, message.type)
    return ws


async def main() -> None:
    """Serve until killed."""
    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print("PORT", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
