"""Other implementations, which all do the same: send everything back, or what they are asked to.

A text that begins with "please " asks for something:

    please close CODE REASON    close, with them
    please fragment             send "one two three" in three fragments
    please ping PAYLOAD         send a Ping; "pong PAYLOAD" is sent once it is answered
    please report               send JSON: what was agreed on as {"protocol": ..., "deflate": ...}
"""

from __future__ import annotations

import abc
import os
import threading
from typing import Any, NamedTuple, NoReturn

import pytest

from ..runners import Runner

FRAGMENTS = ["one ", "two ", "three"]


class Closed(NamedTuple):
    """The end of a connection as the other implementation tells it."""

    code: int
    reason: str


class Peer(abc.ABC):
    """Another implementation, at one end of one connection.

    Attributes:
        closed: how its connection ended, once it has.
    """

    closed: Closed | None = None

    def __init__(self, runner: Runner) -> None:
        self._wake: Any = runner.wake
        self._lock = threading.Lock()
        runner.add_peer(self)

    def wake(self) -> None:
        """Have the test look at what changed, unless it is over."""
        with self._lock:
            if self._wake is not None:
                self._wake()

    def stop(self) -> None:
        """The test is over: what is heard from now on is of no interest."""
        with self._lock:
            self._wake = None

    @abc.abstractmethod
    def serve(self, **options: Any) -> str:
        """Listen; returns the URL.

        Args:
            options: `tls` and `deflate`, which are bools, and `protocol`, which it speaks.
        """

    @abc.abstractmethod
    def connect(self, url: str, **options: Any) -> None:
        """Connect to us; the options are those of `serve`."""


def missing(what: str) -> NoReturn:
    """Skip the test for want of something; where CI runs, it has to be there."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"{what}, and CI is to have it: see tools/test-peers", pytrace=False)
    pytest.skip(what)
