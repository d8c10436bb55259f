"""Hooks of the handshake that may be coroutine functions, where nobody can wait for them.

libwebsockets wants its answer within the call. So a coroutine is run as far as it gets by itself,
which is all of it where it has nothing to wait for.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import Any


def finish(value: Any, name: str) -> Any:
    """Return the value, or what a coroutine returns.

    Raises:
        RuntimeError: it waits for something.
    """
    if not inspect.isawaitable(value):
        return value
    return _run(_as_coroutine(value), name)


async def _as_coroutine(value: Any) -> Any:
    return await value


def _run(coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError(
        f"{name} waits for something, which it cannot: the opening handshake is answered at once"
    )
