"""Times round trips: the same few instructions for every peer."""

from __future__ import annotations

import json
import time
from argparse import Namespace


class Stopwatch:
    """One lap is one round trip, sending and receiving included."""

    def __init__(self, settings: Namespace) -> None:
        self._laps: list[int] = []
        self._last = time.perf_counter_ns()
        self._begin = self._last + int(settings.warmup * 1e9)
        self._end = self._begin + int(settings.seconds * 1e9)
        self._measuring = False
        self._cpu = 0

    def lap(self) -> bool:
        """End a lap and begin the next; False when it is time to stop."""
        now = time.perf_counter_ns()
        if self._measuring:
            self._laps.append(now - self._last)
        elif now >= self._begin:
            self._measuring = True
            self._begin = now
            self._cpu = time.process_time_ns()
        self._last = now
        return now < self._end

    def report(self) -> None:
        """Print what was measured."""
        cpu = time.process_time_ns() - self._cpu
        laps = sorted(self._laps)
        result = {
            "messages": len(laps),
            "seconds": (self._last - self._begin) / 1e9,
            "cpu_seconds": cpu / 1e9,
            "p50_us": laps[len(laps) // 2] / 1e3,
            "p99_us": laps[len(laps) * 99 // 100] / 1e3,
        }
        print(json.dumps(result), flush=True)
