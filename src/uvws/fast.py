"""Whether the hot path goes through CPython's own API (csrc/cpython.c) or through cffi."""

from __future__ import annotations

import os
from typing import Any

from ._core import ffi, lib

_installed = False


def enabled() -> bool:
    """Tell whether csrc/cpython.c is in use."""
    return _installed


def install(connection_type: type[Any]) -> None:
    """Let C implement `Connection.send` and the delivery of messages, where it can.

    With `UVWS_CFFI_ONLY=1` in the environment, and on other Pythons than CPython, all of it goes
    through cffi, which does the same more slowly.
    """
    global _installed
    if _installed:
        return
    if os.environ.get("UVWS_CFFI_ONLY", "0") in ("", "0"):
        _installed = lib.uvws_cpython_install(ffi.cast("void *", id(connection_type))) == 0
