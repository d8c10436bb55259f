"""Echo server on picows and uvloop: each frame goes back as it came, fragments included."""

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

CLOSE = WSMsgType.CLOSE


class Echo(WSListener):
    """Picows hands over frames, not messages, and checks no UTF-8: text is echoed as bytes."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send the frame back; answer a Close."""
        kind = frame.msg_type
        if kind == CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            transport.send(kind, frame.get_payload_as_memoryview(), frame.fin)


def listener(_request: WSUpgradeRequest) -> Echo:
    """Make the handler of one connection."""
    return Echo()


async def main() -> None:
    """Serve until killed."""
    server = await ws_create_server(
        listener, "127.0.0.1", 0, max_frame_size=2**62, enable_auto_ping=False, backlog=1024
    )
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())
