"""uvws as the WebSocket implementation of uvicorn, for any ASGI application.

    uvicorn --ws uvws.uvicorn:WebSocketProtocol app:app

docs/uvicorn.md says what it does and where it differs from those that uvicorn brings along.
"""

from .protocol import WebSocketProtocol

__all__ = ["WebSocketProtocol"]
