"""Header fields that can be changed, as those of a response before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping


class MultipleValuesError(LookupError):
    """One value was asked for, and there are several."""


class Headers(MutableMapping[str, str]):
    """Header fields, whose names compare without case.

    A name may come more than once: `headers[name] = value` adds a value, `get_all()` returns all of
    them, and `headers[name]` raises `MultipleValuesError` where there is more than one.
    """

    __slots__ = ("_pairs",)

    def __init__(
        self, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = (), **more: str
    ) -> None:
        """Create them from pairs, or from a mapping."""
        self._pairs = [*_pairs_of(pairs), *more.items()]

    def __getitem__(self, name: str) -> str:
        """Return the one value of `name`.

        Raises:
            KeyError: there is no such header.
            MultipleValuesError: there is more than one.
        """
        found = self.get_all(name)
        if not found:
            raise KeyError(name)
        if len(found) > 1:
            raise MultipleValuesError(name)
        return found[0]

    def __setitem__(self, name: str, value: str) -> None:
        """Add a value."""
        self._pairs.append((name, value))

    def __delitem__(self, name: str) -> None:
        """Remove all values of `name`.

        Raises:
            KeyError: there is none.
        """
        if name not in self:
            raise KeyError(name)
        lower = name.lower()
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != lower]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a header `name`, in any case."""
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, each once and in lower case."""
        return iter(dict.fromkeys(name.lower() for name, _ in self._pairs))

    def __len__(self) -> int:
        """Return the number of distinct names."""
        return len(set(iter(self)))

    def __eq__(self, other: object) -> bool:
        """Compare names without case, and all values of each in their order."""
        if not isinstance(other, Headers):
            return NotImplemented
        return {name: self.get_all(name) for name in self} == {
            name: other.get_all(name) for name in other
        }

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"

    def __str__(self) -> str:
        """Return the lines as they are sent, and an empty one."""
        return "".join(f"{name}: {value}\r\n" for name, value in self._pairs) + "\r\n"

    def get_all(self, name: str) -> list[str]:
        """Return every value of `name`, in order."""
        lower = name.lower()
        return [value for other, value in self._pairs if other.lower() == lower]

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Iterate over all names and values, in order."""
        return iter(self._pairs)

    def copy(self) -> Headers:
        """Return a copy."""
        return Headers(self._pairs)

    def clear(self) -> None:
        """Remove all."""
        self._pairs = []

    def update(  # type: ignore[override]
        self, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = (), **more: str
    ) -> None:
        """Replace the values of the names that are given, and add the others."""
        new = Headers(pairs, **more)
        names = set(new)
        self._pairs = [pair for pair in self._pairs if pair[0].lower() not in names]
        self._pairs += new._pairs


HeadersLike = Headers | Mapping[str, str] | Iterable[tuple[str, str]]
"""What `additional_headers` may be."""


def pairs_of(headers: HeadersLike | None) -> list[tuple[str, str]]:
    """Return names and values; they are not checked."""
    return [] if headers is None else list(_pairs_of(headers))


def _pairs_of(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    if isinstance(headers, Headers):
        return headers.raw_items()
    return headers.items() if isinstance(headers, Mapping) else headers
