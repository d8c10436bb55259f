"""Exactly bytes and exactly str, of what may be a subclass.

A subclass may have a `__len__`, an `encode` or a `__format__` of its own. What is given to C with
its length, or put into a header, must not depend on what those say.
"""

from __future__ import annotations

from typing import Any


def exact_bytes(data: Any) -> bytes:
    """Return the bytes of anything bytes-like.

    Raises:
        TypeError: it is not bytes-like.
    """
    return data if type(data) is bytes else bytes(memoryview(data))


def exact_str(text: str) -> str:
    """Return the characters of a str, which of a member of a str enumeration are its value."""
    return text if type(text) is str else str.__getitem__(text, slice(None))
