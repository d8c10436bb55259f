"""Server on picows and uvloop; it has no compression."""

import logging

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)
from settings import server_settings, server_tls

CLOSE = WSMsgType.CLOSE
# It logs every pause in writing, which costs it much.
logging.disable()
settings = server_settings()
transports: set[WSTransport] = set()


class Echo(WSListener):
    """Each frame goes back as it came, fragments included: text is never looked at."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send the frame back; answer a Close."""
        kind = frame.msg_type
        if kind == CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            transport.send(kind, frame.get_payload_as_memoryview(), frame.fin)


class Broadcast(WSListener):
    """Each frame goes to everyone."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """One more."""
        transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """One less."""
        transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send the frame to all; answer a Close."""
        kind = frame.msg_type
        if kind == CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        for each in transports:
            each.send(kind, payload)


def listener(_request: WSUpgradeRequest) -> WSListener:
    """Make the handler of one connection."""
    return Broadcast() if settings.broadcast else Echo()


async def main() -> None:
    """Serve until killed."""
    server = await ws_create_server(
        listener,
        "127.0.0.1",
        0,
        ssl=server_tls(settings),
        max_frame_size=2**62,
        enable_auto_ping=False,
        backlog=1024,
    )
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())
