"""WebSockets for Python on the libuv loop that you already run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    ConnectionClosed,
    ConnectTimeout,
    Error,
    HandshakeError,
    InvalidState,
    InvalidURL,
    MessageTooBig,
    PingTimeout,
    SendQueueFull,
    TLSError,
    WrongThread,
)
from .headers import Headers
from .overflow import SendOverflow
from .states import State

if TYPE_CHECKING:
    from .compression import Deflate
    from .connection import Connection
    from .context import Context
    from .listener import Listener
    from .logs import set_debug
    from .responses import Reject, Request, Response

    LWS_VERSION: str

__all__ = [
    "LWS_VERSION",
    "ConnectTimeout",
    "Connection",
    "ConnectionClosed",
    "Context",
    "Deflate",
    "Error",
    "HandshakeError",
    "Headers",
    "InvalidState",
    "InvalidURL",
    "Listener",
    "MessageTooBig",
    "PingTimeout",
    "Reject",
    "Request",
    "Response",
    "SendOverflow",
    "SendQueueFull",
    "State",
    "TLSError",
    "WrongThread",
    "__version__",
    "set_debug",
]


# What needs the extension is loaded when it is asked for: `python -m uvws pyuv-cflags` must work
# before that is built.
_HOMES = {
    "Connection": "connection",
    "Context": "context",
    "Deflate": "compression",
    "Listener": "listener",
    "Reject": "responses",
    "Request": "responses",
    "Response": "responses",
    "set_debug": "logs",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "LWS_VERSION":
        core = importlib.import_module("._core", __name__)
        text: str = core.ffi.string(core.lib.uvws_lws_version()).decode()
        value: Any = text.partition("-")[0]  # what follows is where it was built
    elif name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
