"""HTTP header fields: a read-only view of those received, and the check of those to be sent."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping

from .exact import exact_str

# RFC 9110, section 5.6.2: token
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110, section 5.5: visible characters, obs-text, and between them space and tab
_NOT_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")

HeaderPairs = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers that a user wants sent: a mapping, or pairs where a name may come more than once."""

_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_HANDSHAKE = _FRAMING | {"upgrade"}


class Headers(Mapping[str, str]):
    """The header fields of a request or a response, as they were received; immutable.

    Names compare without case. A name may occur more than once: `headers[name]` and `get()` give
    the first value, `get_all()` every one, and `items()` every pair in the order of the wire.
    Everything else counts distinct names: `len()`, iteration and `keys()` (each name once, spelled
    and ordered as it was first seen), and `values()` (the first value of each). So
    `len(headers.items())` can exceed `len(headers)`, and `dict(headers)` holds first values.

    Example:
        >>> headers = Headers([("Via", "a"), ("Host", "h"), ("via", "b")])
        >>> headers["VIA"], headers.get_all("via"), list(headers)
        ('a', ['a', 'b'], ['Via', 'Host'])
    """

    __slots__ = ("_index", "_pairs")

    _pairs: tuple[tuple[str, str], ...]
    _index: dict[str, list[tuple[str, str]]] | None

    def __init__(self, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        """Create headers from pairs.

        Args:
            pairs: (name, value) pairs in order, or a mapping. They are not checked: this is for
                what a parser has already accepted. See `encode_headers` for what is to be sent.
        """
        self._pairs = tuple(pairs.items() if isinstance(pairs, Mapping) else pairs)
        # Built at the first look-up: most connections never ask.
        self._index = None

    def _by_name(self) -> dict[str, list[tuple[str, str]]]:
        """Return the pairs of each lower-case name, in order of first appearance."""
        if self._index is None:
            self._index = {}
            for pair in self._pairs:
                self._index.setdefault(pair[0].lower(), []).append(pair)
        return self._index

    def _found(self, name: object) -> list[tuple[str, str]]:
        """Return the pairs of a name in any case, none if it is absent or no str."""
        return self._by_name().get(name.lower(), []) if isinstance(name, str) else []

    def __getitem__(self, name: str) -> str:
        """Return the first value of `name`.

        Raises:
            KeyError: there is no such header.
        """
        found = self._found(name)
        if not found:
            raise KeyError(name)
        return found[0][1]

    def get_all(self, name: str) -> list[str]:
        """Return every value of `name`, in order; an empty list if there is none."""
        return [value for _, value in self._found(name)]

    def items(self) -> ItemsView[str, str]:
        """Return a view of every (name, value) pair, in order, repeated names included."""
        return _Pairs(self)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a header `name`, in any case."""
        return bool(self._found(name))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the distinct names, spelled and ordered as first seen."""
        return (pairs[0][0] for pairs in self._by_name().values())

    def __len__(self) -> int:
        """Return the number of distinct names."""
        return len(self._by_name())

    def __eq__(self, other: object) -> bool:
        """Compare with headers or another mapping: equal names without case, equal values.

        The order of the values of one name counts, the order of the names does not.
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        return self._values() == (other if isinstance(other, Headers) else Headers(other))._values()

    def __hash__(self) -> int:
        """Return a hash that agrees with `==`."""
        return hash(frozenset((name, tuple(values)) for name, values in self._values().items()))

    def __repr__(self) -> str:
        """Return the pairs in a form that makes the same headers again."""
        return f"Headers({list(self._pairs)!r})"

    def _values(self) -> dict[str, list[str]]:
        """Return the values of each lower-case name."""
        return {name: [value for _, value in got] for name, got in self._by_name().items()}


class _Pairs(ItemsView[str, str]):
    """What `Headers.items()` returns: all pairs; the inherited view has distinct names only."""

    __slots__ = ()

    _mapping: Headers

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._mapping._pairs)

    def __len__(self) -> int:
        return len(self._mapping._pairs)

    def __contains__(self, pair: object) -> bool:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            return False
        return isinstance(pair[0], str) and pair[1] in self._mapping.get_all(pair[0])


def parse_headers(raw: bytes) -> Headers:
    """Make headers of what C collected: names and values, each with a NUL behind it."""
    fields = raw.decode("latin-1").split("\0")
    return Headers(
        [
            (name, value.strip(" \t"))
            for name, value in zip(fields[0:-1:2], fields[1::2], strict=True)
        ]
    )


def encode_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    argument: str,
    *,
    handshake: bool = True,
) -> list[tuple[str, str]]:
    """Check header fields that a user wants sent.

    Names must be tokens (RFC 9110, section 5.1). Values must be text that Latin-1 can encode,
    without control characters other than tab, above all without CR, LF and NUL; space and tab at
    either end are stripped, for they are not part of a value (RFC 9110, section 5.5).

    Args:
        headers: a mapping, or (name, value) pairs; a name may occur more than once.
        argument: the name of the user's argument, for the messages.
        handshake: True for headers of the opening handshake, whose `Connection`, `Upgrade` and
            `Sec-WebSocket-*` are not the user's to set; False for those of an ordinary HTTP
            response. `Connection`, `Content-Length` and `Transfer-Encoding` are refused in both.

    Returns:
        The pairs, in order, ready to be encoded as Latin-1.

    Raises:
        TypeError: something is not a mapping, a pair or a str.
        ValueError: a name or a value is not allowed; the message says which, and what is.
    """
    encoded: list[tuple[str, str]] = []
    hosts = 0
    for pair in _pairs_of(headers, argument):
        name, value = _checked_pair(pair, argument)
        _refuse_owned(name, argument, handshake)
        hosts += name.lower() == "host"
        encoded.append((name, _checked_value(name, value, argument)))
    if hosts > 1:
        raise ValueError(f"{argument}: Host is given {hosts} times; once is allowed")
    return encoded


def _pairs_of(headers: object, argument: str) -> Iterable[object]:
    """Return what should be pairs, refusing what is neither a mapping nor iterable."""
    if isinstance(headers, Mapping):
        return headers.items()
    # Strings iterate too, but never over pairs.
    if isinstance(headers, Iterable) and not isinstance(headers, (str, bytes, bytearray)):
        return headers
    raise TypeError(
        f"{argument} must be a mapping or (name, value) pairs, not {type(headers).__name__}"
    )


def _checked_pair(pair: object, argument: str) -> tuple[str, str]:
    """Return a pair of str whose name is a token."""
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise TypeError(f"{argument} must hold (name, value) pairs, not {pair!r}")
    name, value = pair
    if not isinstance(name, str):
        raise TypeError(f"{argument}: a header name must be str, not {type(name).__name__}")
    if not isinstance(value, str):
        raise TypeError(
            f"{argument}: the value of {name!r} must be str, not {type(value).__name__}"
        )
    name, value = exact_str(name), exact_str(value)
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{argument}: {name!r} is no header name; allowed are letters, digits and "
            "!#$%&'*+-.^_`|~"
        )
    return name, value


def _checked_value(name: str, value: str, argument: str) -> str:
    """Return a value without the white space around it, refusing what a header cannot carry."""
    stripped = value.strip(" \t")
    bad = _NOT_IN_VALUE.search(stripped)
    if bad:
        # The value itself stays out of the message: it may be a credential.
        raise ValueError(
            f"{argument}: the value of {name!r} has the character {bad[0]!r} at position "
            f"{value.index(bad[0])}; allowed are Latin-1 characters and tab, but no other "
            "control characters"
        )
    return stripped


def _refuse_owned(name: str, argument: str, handshake: bool) -> None:
    """Refuse a header that uvws sends by itself."""
    lower = name.lower()
    if lower in (_HANDSHAKE if handshake else _FRAMING):
        raise ValueError(f"{argument}: {name} is set by uvws itself and cannot be given")
    if handshake and lower == "sec-websocket-protocol":
        raise ValueError(f"{argument}: {name} cannot be given; use the argument protocol")
    if handshake and lower.startswith("sec-websocket-"):
        raise ValueError(f"{argument}: {name} belongs to the handshake and cannot be given")
