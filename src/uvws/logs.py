"""What libwebsockets logs goes to the logger `uvws.lws`."""

from __future__ import annotations

import logging
import os

from ._core import lib

_debug: bool | None = None


def set_debug(on: bool = True) -> None:
    """Have libwebsockets log what it does, at the levels INFO and DEBUG of `uvws.lws`.

    Otherwise only its warnings and errors are logged. `UVWS_DEBUG=1` in the environment does the
    same from the start.

    Args:
        on: whether to.
    """
    global _debug
    _debug = bool(on)
    lib.uvws_set_log_level(_debug)


def apply() -> None:
    """Set logging up at the first context: nothing is done at import."""
    logger = logging.getLogger("uvws.lws")
    if not logger.handlers:
        # Without it Python would print to stderr where the application has not set up logging, and
        # what matters to that is raised or handed to on_error anyway.
        logger.addHandler(logging.NullHandler())
    if _debug is None:
        set_debug(os.environ.get("UVWS_DEBUG", "0") not in ("", "0"))
