"""Tells how far it is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time

from harness import say


class Lines:
    """A line for each step, with an estimate of the time left."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, what: str) -> None:
        """A step begins."""

    def end(self, what: str, outcome: str) -> None:
        """It is done."""
        self._done += 1
        spent = time.monotonic() - self._start
        left = spent / self._done * (self._total - self._done)
        say(f"[{self._done}/{self._total}, {left:.0f} s left] {what}: {outcome}")


class Bar(Lines):
    """A bar, the lines above it."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        # Here, for only those who look at it need it.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            # The steps are of different length: an estimate from a few would jump about.
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True, highlight=False),
            speed_estimate_period=300,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, what: str) -> None:
        """A step begins."""
        self._progress.update(self._task, description=what)

    def end(self, what: str, outcome: str) -> None:
        """It is done."""
        self._progress.console.print(f"{what}: {outcome}", markup=False)
        self._progress.advance(self._task)


def show(total: int) -> Lines:
    """Choose how to tell of so many steps; to be entered."""
    if sys.stderr.isatty():
        try:
            return Bar(total)
        except ImportError:
            pass
    return Lines(total)
