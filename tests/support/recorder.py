"""Callbacks that write down what they are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = tuple[Any, ...]

_NAMES = ("connect", "message", "close", "error", "pong", "drain")


class Recorder:
    """Records callbacks in the order of their calls.

    Attributes:
        events: ("connect", headers), ("message", data), ("close", code, reason),
            ("error", exception), ("pong", payload) and ("drain",).
        connections: the connection of each event, in the same order.
    """

    def __init__(self, **hooks: Callable[..., object]) -> None:
        """Create it.

        Args:
            hooks: `on_connect=`, `on_message=` and so on: called with the callback's own arguments
                once the event is recorded.
        """
        self.events: list[Event] = []
        self.connections: list[Any] = []
        self._hooks = hooks
        unknown = set(hooks) - {f"on_{name}" for name in _NAMES}
        assert not unknown, f"no such callbacks: {unknown}"

    @property
    def callbacks(self) -> dict[str, Callable[..., object]]:
        """Keyword arguments for connect and listen."""
        return {f"on_{name}": self._callback(name) for name in _NAMES}

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [event[0] for event in self.events]

    @property
    def messages(self) -> list[Any]:
        """The messages, in order."""
        return [event[1] for event in self.events if event[0] == "message"]

    @property
    def connection(self) -> Any:
        """The connection of the latest event."""
        return self.connections[-1]

    def count(self, name: str) -> int:
        """Tell how often a callback was called."""
        return self.names.count(name)

    def saw(self, name: str, times: int = 1) -> Callable[[], bool]:
        """Return a predicate for Runner.run: the callback was called that often, or more."""

        def seen() -> bool:
            return self.count(name) >= times

        seen.__qualname__ = f"on_{name} called {times} times"
        return seen

    def _callback(self, name: str) -> Callable[..., object]:
        def record(connection: Any, *arguments: Any) -> object:
            self.events.append((name, *arguments))
            self.connections.append(connection)
            hook = self._hooks.get(f"on_{name}")
            return hook(connection, *arguments) if hook is not None else None

        return record
