"""Small things that many tests need."""

from __future__ import annotations

from typing import Any

import pytest

from .deadlines import time_limit
from .runners import Runner

# Sanitizers and valgrind hold on to freed memory, and run with the time limits stretched.
measures_memory = pytest.mark.skipif(time_limit(1) > 1, reason="runs under an instrument")


def loop_kinds(*kinds: str) -> pytest.MarkDecorator:
    """Have a test's `runner` be of these kinds only."""
    return pytest.mark.parametrize("runner", kinds, indirect=True)


def url_of(listener: Any, path: str = "/") -> str:
    """Return a URL at which a listener on this host is reached."""
    return f"ws://127.0.0.1:{listener.port}{path}"


def echo(runner: Runner, **options: Any) -> Any:
    """Listen on a context of its own and send every message back; returns the listener."""
    options.setdefault("host", "127.0.0.1")
    options.setdefault("on_message", lambda connection, data: connection.send(data))
    return runner.context().listen(**options)


def no_callbacks(name: str = "callback") -> dict[str, Any]:
    """Return keyword arguments for connect and listen under which every callback is a failure."""

    def refuse(what: str) -> Any:
        def called(*arguments: object) -> None:
            raise AssertionError(f"{name}: {what} was called with {arguments[1:]}")

        return called

    names = ("on_connect", "on_message", "on_close", "on_error", "on_pong", "on_drain")
    return {what: refuse(what) for what in names}
