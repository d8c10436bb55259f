"""Both ends on aiohttp, in one uvloop."""

import aiohttp
import uvloop
from aiohttp import web
from settings import client_tls, roundtrip_settings, server_tls
from stopwatch import Stopwatch

settings = roundtrip_settings()
watch = Stopwatch(settings)


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    ws = web.WebSocketResponse(compress=False, decode_text=False)
    await ws.prepare(request)
    async for message in ws:
        await ws.send_frame(message.data, message.type)
    return ws


async def main() -> None:
    """Run until the time is over."""
    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(settings)).start()
    scheme = "https" if settings.certificate else "http"
    url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=client_tls(settings) or True, decode_text=False) as ws,
    ):
        data = b"x" * settings.size
        while True:
            await ws.send_frame(data, aiohttp.WSMsgType.TEXT)
            await ws.receive()
            if not watch.lap():
                break
    watch.report()
    await runner.cleanup()


uvloop.run(main())
