"""Server on aiohttp and uvloop: text is echoed as bytes, without being decoded."""

import asyncio

import uvloop
from aiohttp import web
from settings import server_settings, server_tls

settings = server_settings()
everyone: set[web.WebSocketResponse] = set()


async def serve(request: web.Request) -> web.WebSocketResponse:
    """Send every message back, or to everyone."""
    ws = web.WebSocketResponse(
        compress=settings.deflate,
        max_msg_size=0,
        heartbeat=None,
        decode_text=False,
        writer_limit=2**22,
    )
    await ws.prepare(request)
    if settings.broadcast:
        everyone.add(ws)
        async for message in ws:
            for each in everyone:
                await each.send_frame(message.data, message.type)
        everyone.discard(ws)
    else:
        async for message in ws:
            await ws.send_frame(message.data, message.type)
    return ws


async def main() -> None:
    """Serve until killed."""
    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(settings), backlog=1024)
    await site.start()
    print("PORT", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
