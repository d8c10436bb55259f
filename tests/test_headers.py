"""`uvws.headers`: reading header fields, and the check of those that a user wants sent."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any, cast

import pytest

from uvws.headers import Headers, encode_headers

PAIRS = [("Via", "first"), ("Host", "example.com"), ("VIA", "second"), ("Empty", "")]


@pytest.fixture
def headers() -> Headers:
    return Headers(PAIRS)


# ---------------------------------------------------------------- Headers


@pytest.mark.parametrize("name", ["Via", "via", "VIA", "vIa"])
def test_a_name_is_found_in_any_case_and_gives_its_first_value(headers: Headers, name: str) -> None:
    assert headers[name] == "first"
    assert headers.get(name) == "first"
    assert name in headers


def test_get_all_gives_every_value_in_order(headers: Headers) -> None:
    assert headers.get_all("via") == ["first", "second"]
    assert headers.get_all("host") == ["example.com"]
    assert headers.get_all("absent") == []


def test_a_missing_name_is_a_key_error_with_that_name(headers: Headers) -> None:
    with pytest.raises(KeyError, match="Absent"):
        headers["Absent"]
    assert headers.get("Absent") is None
    assert headers.get("Absent", "x") == "x"
    assert "Absent" not in headers


def test_an_empty_value_is_there(headers: Headers) -> None:
    assert "empty" in headers
    assert headers["empty"] == ""


@pytest.mark.parametrize("key", [None, 1, b"Via", ("Via",)])
def test_a_key_that_is_no_str_is_absent(headers: Headers, key: Any) -> None:
    assert key not in headers
    with pytest.raises(KeyError):
        headers[key]


def test_items_gives_every_pair_in_order_as_spelled(headers: Headers) -> None:
    assert list(headers.items()) == PAIRS
    assert len(headers.items()) == 4
    assert ("via", "second") in headers.items()
    assert ("via", "third") not in headers.items()
    assert cast("Any", "via") not in headers.items()


def test_iteration_gives_distinct_names_as_first_seen(headers: Headers) -> None:
    assert list(headers) == ["Via", "Host", "Empty"]
    assert list(headers.keys()) == ["Via", "Host", "Empty"]
    assert list(headers.values()) == ["first", "example.com", ""]
    assert len(headers) == 3
    assert dict(headers) == {"Via": "first", "Host": "example.com", "Empty": ""}


def test_no_headers_are_false_and_empty() -> None:
    assert not Headers()
    assert len(Headers()) == 0
    assert list(Headers().items()) == []


def test_headers_can_be_made_from_pairs_a_mapping_or_other_headers(headers: Headers) -> None:
    assert list(Headers(iter(PAIRS)).items()) == PAIRS
    assert list(Headers({"A": "1"}).items()) == [("A", "1")]
    assert list(Headers(headers).items()) == PAIRS


def test_headers_are_a_mapping_that_cannot_be_changed(headers: Headers) -> None:
    assert isinstance(headers, Mapping)
    with pytest.raises(TypeError):
        headers["Via"] = "x"  # type: ignore[index]
    with pytest.raises(TypeError):
        del headers["Via"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        headers.other = 1  # type: ignore[attr-defined]
    headers.get_all("via").clear()
    assert headers.get_all("via") == ["first", "second"]


def test_equality_ignores_the_case_and_order_of_names_but_not_the_order_of_values() -> None:
    assert Headers([("A", "1"), ("B", "2")]) == Headers([("b", "2"), ("a", "1")])
    assert Headers([("A", "1")]) == {"a": "1"}
    assert Headers([("A", "1"), ("A", "2")]) != Headers([("A", "2"), ("A", "1")])
    assert Headers([("A", "1"), ("A", "2")]) != {"A": "1"}
    assert Headers([("A", "1")]) != [("A", "1")]


def test_equal_headers_have_equal_hashes() -> None:
    assert hash(Headers([("A", "1"), ("B", "2")])) == hash(Headers([("b", "2"), ("a", "1")]))


def test_headers_can_be_printed_copied_and_pickled(headers: Headers) -> None:
    assert repr(headers) == f"Headers({PAIRS!r})"
    assert copy.deepcopy(headers) == headers
    assert list(pickle.loads(pickle.dumps(headers)).items()) == PAIRS


def test_the_index_is_built_only_when_something_is_looked_up(headers: Headers) -> None:
    assert list(headers.items()) == PAIRS
    assert headers._index is None
    assert headers["host"]
    assert headers._index is not None


# ---------------------------------------------------------------- encode_headers


@pytest.mark.parametrize(
    "given",
    [
        {"A": "1", "B": "2"},
        [("A", "1"), ("B", "2")],
        (("A", "1"), ("B", "2")),
        [["A", "1"], ["B", "2"]],
        iter([("A", "1"), ("B", "2")]),
        Headers([("A", "1"), ("B", "2")]),
    ],
    ids=["dict", "list", "tuple", "lists", "iterator", "Headers"],
)
def test_a_mapping_or_pairs_come_out_as_pairs_in_order(given: Any) -> None:
    assert encode_headers(given, "headers") == [("A", "1"), ("B", "2")]


def test_a_name_may_be_repeated() -> None:
    pairs = [("Cookie", "a=1"), ("Cookie", "b=2")]
    assert encode_headers(pairs, "headers") == pairs
    assert encode_headers(Headers(pairs), "headers") == pairs


@pytest.mark.parametrize("value", ["", "a b", "a\tb", "caf\xe9", "\xff", 'a,b;c="d"'])
def test_values_may_hold_latin_1_and_tabs(value: str) -> None:
    assert encode_headers([("X-A", value)], "headers") == [("X-A", value)]


def test_white_space_around_a_value_is_stripped() -> None:
    assert encode_headers({"A": " \t x y \t"}, "headers") == [("A", "x y")]


@pytest.mark.parametrize("given", [None, 1, "A: 1", b"A: 1", object()])
def test_what_is_neither_mapping_nor_pairs_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^my_headers must be a mapping or .* pairs"):
        encode_headers(given, "my_headers")


@pytest.mark.parametrize("pair", ["AB", ("A",), ("A", "1", "2"), {"A", "1"}, None])
def test_an_item_that_is_no_pair_is_a_type_error(pair: Any) -> None:
    with pytest.raises(TypeError, match=r"^headers must hold \(name, value\) pairs"):
        encode_headers([pair], "headers")


@pytest.mark.parametrize("pair", [(1, "x"), (b"A", "x"), ("A", b"x"), ("A", 1), ("A", None)])
def test_names_and_values_must_be_str(pair: Any) -> None:
    with pytest.raises(TypeError, match=r"^headers: .* must be str, not "):
        encode_headers([pair], "headers")


@pytest.mark.parametrize(
    "name", ["", " ", "A B", "A:", "A\n", "A\r\nB", "A\0", "\xe9", "(A)", "A/B", ":path", "A,B"]
)
def test_a_name_must_be_a_token(name: str) -> None:
    with pytest.raises(ValueError, match=r"^headers: .* is no header name; allowed are letters"):
        encode_headers([(name, "x")], "headers")


@pytest.mark.parametrize(
    "value", ["a\r\nB: c", "a\n", "\ra", "\0", "a\x0bb", "\x1f", "\x7f", "\u20ac", "\ud800"]
)
def test_a_value_must_hold_no_control_characters_and_fit_latin_1(value: str) -> None:
    with pytest.raises(ValueError, match=r"^headers: the value of 'X-A' has the character"):
        encode_headers([("X-A", value)], "headers")


def test_a_bad_value_is_not_quoted_for_it_may_be_a_secret() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        encode_headers({"Authorization": "Bearer secret\n"}, "headers")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "UPGRADE",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "sec-websocket-extensions",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_the_handshakes_own_headers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^headers: {name} .*cannot be given"):
        encode_headers({name: "x"}, "headers")


def test_the_subprotocol_header_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match="use the argument protocol"):
        encode_headers({"Sec-WebSocket-Protocol": "chat"}, "headers")


def test_host_may_be_given_once() -> None:
    assert encode_headers({"Host": "example.com"}, "headers") == [("Host", "example.com")]
    with pytest.raises(ValueError, match="Host is given 2 times"):
        encode_headers([("Host", "a"), ("host", "b")], "headers")


def test_an_ordinary_response_may_have_handshake_headers_but_not_the_framing() -> None:
    allowed = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    assert encode_headers(allowed, "headers", handshake=False) == allowed
    for name in ("Connection", "Content-Length", "Transfer-Encoding"):
        with pytest.raises(ValueError, match=name):
            encode_headers({name: "x"}, "headers", handshake=False)
