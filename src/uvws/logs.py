"""Logging: what libwebsockets says goes to the logger `uvws.lws`, what uvws says to `uvws`.

Our own lines come only with debugging on. They tell whom a connection is with and how it went,
never what was sent in it: no headers, no paths (a query may hold a token), no close reasons.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from ._core import lib

log = logging.getLogger("uvws")
_library_log = logging.getLogger("uvws.lws")

enabled = False
"""Whether debugging is on: to be looked at before anything is put together for `log`."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_lock = threading.RLock()  # a finaliser may make a context while it is held
_decided = False  # set_debug was called: the environment does not count any more
_own_level = False  # the level of `log` is ours to take back


def set_debug(on: bool = True) -> None:
    """Log what uvws and libwebsockets do.

    Lines of uvws's own go to the logger `uvws` at the level DEBUG, those of libwebsockets to
    `uvws.lws` at INFO and DEBUG; that lets its warnings and errors through only while debugging is
    off. Where the application has not configured logging, the lines go to stderr. `UVWS_DEBUG=1` in
    the environment does the same from the first context on. Any thread may call this at any time.

    Our lines tell of hosts, ports, status and close codes only; those of libwebsockets may tell of
    paths that were asked for as well.

    Args:
        on: whether to.
    """
    global _decided
    with _lock:
        _decided = True
        _set(bool(on))


def apply() -> None:
    """Set logging up at the first context: nothing is done at import."""
    global _decided
    with _lock:
        if not _library_log.handlers:
            # Without it Python would print to stderr where the application has not set up logging,
            # and what matters to that is raised or handed to on_error anyway.
            _library_log.addHandler(logging.NullHandler())
        if not _decided:
            _decided = True
            _set(os.environ.get("UVWS_DEBUG", "0") not in ("", "0"))


def _set(on: bool) -> None:
    global enabled, _own_level
    if on:
        log.addHandler(_to_stderr)  # a second time does nothing
        if log.level == logging.NOTSET:
            log.setLevel(logging.DEBUG)
            _own_level = True
    else:
        log.removeHandler(_to_stderr)
        if _own_level and log.level == logging.DEBUG:
            log.setLevel(logging.NOTSET)
        _own_level = False
    enabled = on
    lib.uvws_set_log_level(on)


class _Stderr(logging.Handler):
    """Prints what no other handler will see, as may change with each record."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None or self._is_seen_elsewhere(record):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def _is_seen_elsewhere(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            for handler in logger.handlers:
                if handler is not self and not isinstance(handler, logging.NullHandler):
                    return True
            logger = logger.parent if logger.propagate else None
        return False


_to_stderr = _Stderr()
_to_stderr.setFormatter(logging.Formatter(_FORMAT))
