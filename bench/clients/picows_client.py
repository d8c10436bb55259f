"""Client on picows and uvloop; counts what it receives, and never looks at text."""

import json
import logging

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from settings import client_settings, client_tls

CLOSE = WSMsgType.CLOSE
# It logs every pause in writing, which costs it much.
logging.disable()
settings = client_settings()
messages = size = 0


class Counter(WSListener):
    """The server sends each message in one frame."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One more; answer a Close."""
        global messages, size
        if frame.msg_type == CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        messages += 1
        size += len(frame.get_payload_as_memoryview())


async def main() -> None:
    """Receive until the server closes."""
    transport, _ = await ws_connect(
        Counter, settings.url, ssl_context=client_tls(settings), max_frame_size=2**62
    )
    await transport.wait_disconnected()


uvloop.run(main())
print(json.dumps({"messages": messages, "bytes": size}), flush=True)
