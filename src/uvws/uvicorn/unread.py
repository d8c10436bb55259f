"""What uvicorn's HTTP protocols have read behind an upgrade request, and would forget."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from types import TracebackType
from typing import Any


def unread(transport: asyncio.Transport) -> bytes:
    """Return what came in one read with the request; to be asked while that is handed over.

    A client may send its first frames right behind the request only if it does not care for the
    answer, but a proxy on the way may put them together, and then they must not get lost.
    """
    protocol = None
    with contextlib.suppress(AttributeError, NotImplementedError):  # of transports in tests
        protocol = transport.get_protocol()
    trailing = getattr(getattr(protocol, "conn", None), "trailing_data", None)
    if isinstance(trailing, tuple):  # h11 keeps it
        return bytes(trailing[0])
    return _behind(sys.exc_info()[1])


def _behind(error: BaseException | None) -> bytes:
    """Return what follows the request where httptools ended it.

    httptools raises an exception at the end of the request; uvicorn is handling it now. That says
    how far it got in what its caller had read, which nobody but the caller has.
    """
    httptools: Any = sys.modules.get("httptools")
    if httptools is None or not isinstance(error, httptools.HttpParserUpgrade):
        return b""
    traceback: TracebackType | None = error.__traceback__
    data = traceback.tb_frame.f_locals.get("data") if traceback is not None else None
    return bytes(data[error.args[0] :]) if isinstance(data, (bytes, bytearray)) else b""
