"""Both ends on picows, in one uvloop."""

import logging

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_connect,
    ws_create_server,
)
from settings import client_tls, roundtrip_settings, server_tls
from stopwatch import Stopwatch

# It logs every pause in writing, which costs it much.
logging.disable()
settings = roundtrip_settings()
watch = Stopwatch(settings)
TEXT = WSMsgType.TEXT


class Echo(WSListener):
    """The server's end."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send a message back."""
        transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Client(WSListener):
    """The client's end."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        transport.send(TEXT, b"x" * settings.size)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Go on to the next."""
        if watch.lap():
            transport.send(TEXT, frame.get_payload_as_bytes())
        else:
            transport.disconnect()


def listener(_request: WSUpgradeRequest) -> Echo:
    """Make the server's end."""
    return Echo()


async def main() -> None:
    """Run until the time is over."""
    server = await ws_create_server(listener, "127.0.0.1", 0, ssl=server_tls(settings))
    port = server.sockets[0].getsockname()[1]
    scheme = "wss" if settings.certificate else "ws"
    transport, _ = await ws_connect(
        Client, f"{scheme}://127.0.0.1:{port}", ssl_context=client_tls(settings)
    )
    await transport.wait_disconnected()
    watch.report()
    server.close()


uvloop.run(main())
