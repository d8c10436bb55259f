"""The bounds that a connection is held to, so that no peer can take more than its share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from . import options
from ._core import ffi

SERVER_MESSAGE_SIZE = 16 * 1024 * 1024
"""Bytes: the default of `max_message_size` where anybody can be the peer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The struct `uvws_limits` of csrc/api.h, which docs/limits.md explains. 0 stands for no limit.

    Attributes:
        max_message_size: bytes after decompression.
    """

    max_message_size: int

    @classmethod
    def checked(cls, *, max_message_size: object) -> Limits:
        """Make it from keyword arguments.

        Raises:
            TypeError, ValueError: one is wrong; the message names it.
        """
        return cls(max_message_size=options.message_limit(max_message_size))

    def for_c(self) -> Any:
        """Return the struct for C, which copies it."""
        return ffi.new("uvws_limits *", asdict(self))
