"""Time limits: how long a test waits before it calls something missing."""

from __future__ import annotations

import os

_SCALE = float(os.environ.get("UVWS_TEST_TIME_SCALE") or "1")


def time_limit(seconds: float) -> float:
    """Return a time limit in seconds, longer where instruments make everything slower."""
    return seconds * _SCALE
