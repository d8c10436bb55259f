"""What is to be done at which time, on any loop: one timer instead of one for each connection."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from support.runners import Runner

_STEP = 0.02


class Agenda:
    """Calls functions from the loop when their time has come."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        runner.call_later(_STEP, self._turn)

    def after(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function so many seconds from now."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), function))

    def _turn(self) -> None:
        self._runner.call_later(_STEP, self._turn)
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
