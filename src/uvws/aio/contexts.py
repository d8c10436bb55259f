"""The contexts that all connections and servers of a loop share.

To make a context costs milliseconds, and tens of them with authorities to read for TLS. So there is
one for each loop and each set of certificates of clients. It is closed with its loop, or when there
are too many others and nothing uses it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial

from ..context import Context
from ..core import Core
from ..options import TLSFiles

_KEPT_IDLE = 8

_shared: dict[asyncio.AbstractEventLoop, OrderedDict[TLSFiles, Context]] = {}
_NOTHING = TLSFiles(None, None, None)


def shared_core(files: TLSFiles = _NOTHING) -> tuple[Context, Core]:
    """Return the context of the running loop for clients with these certificates."""
    loop = asyncio.get_running_loop()
    contexts = _shared.get(loop)
    if contexts is None:
        contexts = _shared[loop] = OrderedDict()
    context = contexts.get(files)
    if context is None:
        context = contexts[files] = _new(loop, files)
        _close_idle(contexts)
    contexts.move_to_end(files)
    return context, context.core


def _new(loop: asyncio.AbstractEventLoop, files: TLSFiles) -> Context:
    context = Context(loop, ssl_cert=files.cert, ssl_key=files.key, ssl_ca=files.ca, proxy="")
    context.core.when_closed = partial(_forget, loop, files)
    return context


def _forget(loop: asyncio.AbstractEventLoop, files: TLSFiles) -> None:
    contexts = _shared.get(loop)
    if contexts is None:
        return
    contexts.pop(files, None)
    if not contexts:
        del _shared[loop]


def _close_idle(contexts: OrderedDict[TLSFiles, Context]) -> None:
    """Close those that were not asked for longest; what is in use stays."""
    idle = [each for each in list(contexts.values())[:-1] if not each.core.is_live]
    for context in idle[: max(0, len(contexts) - _KEPT_IDLE)]:
        context.close()
