"""The context that all WebSockets of a loop share; it is closed with the loop."""

from __future__ import annotations

import asyncio
from functools import partial

from ..context import Context

_contexts: dict[asyncio.AbstractEventLoop, Context] = {}


def context_of(loop: asyncio.AbstractEventLoop) -> Context:
    """Return the context of a loop."""
    context = _contexts.get(loop)
    if context is None:
        context = _contexts[loop] = Context(loop, proxy="")
        context.core.when_closed = partial(_contexts.pop, loop, None)
    return context
