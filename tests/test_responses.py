"""Reject and Response by themselves: what they take, and how they are laid out."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

import uvws
from support.http import Answer, parse_answer
from uvws.responses import encode_response

KINDS = (uvws.Response, uvws.Reject)


def sent(answer: Any) -> Answer:
    """Return what goes over the wire, taken apart."""
    return parse_answer(answer.encode())


def test_the_defaults() -> None:
    assert sent(uvws.Response()).status == 200
    assert sent(uvws.Reject()).status == 403
    assert [sent(kind()).body for kind in KINDS] == [b"", b""]


@pytest.mark.parametrize(("kind", "lowest"), [(uvws.Response, 200), (uvws.Reject, 300)])
def test_a_status_in_range_is_taken(kind: Any, lowest: int) -> None:
    for status in range(lowest, 600):
        assert sent(kind(status)).status == status


@pytest.mark.parametrize(
    ("kind", "status"),
    [(uvws.Response, 101), (uvws.Response, 199), (uvws.Reject, 101), (uvws.Reject, 200)]
    + [(uvws.Reject, 299)]
    + [(kind, status) for kind in KINDS for status in (-1, 0, 100, 600, 1000, 1 << 80)],
)
def test_a_status_out_of_range_is_refused(kind: Any, status: int) -> None:
    with pytest.raises(ValueError, match=f"^status must be [23]00 to 599, not {status}$"):
        kind(status)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["200", 404.0, True, None, b"404"])
def test_a_status_that_is_no_int_is_refused(kind: Any, status: Any) -> None:
    with pytest.raises(TypeError, match=f"^status must be an int, not {type(status).__name__}$"):
        kind(status)


def test_a_status_of_the_standard_library_is_one() -> None:
    from http import HTTPStatus

    raw = uvws.Response(HTTPStatus.NOT_FOUND).encode()
    assert raw.startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_a_status_without_a_name_has_some_phrase() -> None:
    assert re.match(rb"HTTP/1\.1 599 \w+\r\n", uvws.Response(599).encode())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("body", "raw"),
    [
        ("", b""),
        ("grün €", "grün €".encode()),
        (b"\0\r\n", b"\0\r\n"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
    ],
    ids=["empty", "str", "bytes", "bytearray", "memoryview"],
)
def test_a_body_is_str_or_bytes_like(kind: Any, body: Any, raw: bytes) -> None:
    answer = sent(kind(404, None, body))
    assert answer.body == raw
    assert answer.headers.get_all("Content-Length") == [str(len(raw))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", [None, 5, ["a"], 3.5, {"a": 1}], ids=repr)
def test_any_other_body_is_refused(kind: Any, body: Any) -> None:
    with pytest.raises(TypeError, match=f"^body must be str or bytes, not {type(body).__name__}$"):
        kind(404, None, body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_is_no_text_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        kind(404, None, "\udc80")


def test_a_body_is_taken_when_it_is_given() -> None:
    body = bytearray(b"before")
    response = uvws.Response(body=body)
    body[:] = b"after!"
    assert sent(response).body == b"before"


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_plain_text_unless_a_header_says_otherwise(kind: Any) -> None:
    assert sent(kind(404, None, "a")).headers.get_all("Content-Type") == [
        "text/plain; charset=utf-8"
    ]
    html = {"content-TYPE": "text/html"}
    assert sent(kind(404, html, "a")).headers.get_all("Content-Type") == ["text/html"]


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_have_no_type_of_their_own(kind: Any) -> None:
    assert "Content-Type" not in sent(kind(404, None, b"a")).headers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": "1", "Upgrade": "websocket"},
        [("Set-Cookie", "a"), ("Set-Cookie", "b")],
        uvws.Headers([("A", "1"), ("a", "2")]),
        [],
        {},
        None,
    ],
    ids=repr,
)
def test_headers_are_a_mapping_or_pairs(kind: Any, headers: Any) -> None:
    wanted = list(headers.items() if hasattr(headers, "items") else headers or ())
    assert list(sent(kind(404, headers)).headers.items())[: len(wanted)] == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"A": "x\r\nB: y"}, ValueError),
        ({"A\r\nB": "x"}, ValueError),
        ({"A": "x\0y"}, ValueError),
        ({"A": "€"}, ValueError),
        ({"Connection": "keep-alive"}, ValueError),
        ({"content-length": "0"}, ValueError),
        ({"Transfer-Encoding": "chunked"}, ValueError),
        ({"A": 1}, TypeError),
        ([("A",)], TypeError),
        ("A: b", TypeError),
        (5, TypeError),
        (0, TypeError),
        ("", TypeError),
    ],
    ids=repr,
)
def test_headers_that_cannot_be_sent_are_refused(
    kind: Any, headers: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^headers"):
        kind(404, headers)


@pytest.mark.parametrize("kind", KINDS)
def test_the_connection_ends_with_every_answer(kind: Any) -> None:
    assert sent(kind(404)).headers.get_all("Connection") == ["close"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_has_a_date_unless_it_is_given(kind: Any) -> None:
    assert parsedate_to_datetime(sent(kind(404)).headers["Date"])
    assert sent(kind(404, {"date": "mine"})).headers.get_all("Date") == ["mine"]


def test_204_has_neither_body_nor_length() -> None:
    answer = sent(uvws.Response(204, None, b"nobody sees this"))
    assert answer.body == b""
    assert "Content-Length" not in answer.headers


@pytest.mark.parametrize("kind", KINDS)
def test_304_has_neither_body_nor_length(kind: Any) -> None:
    answer = sent(kind(304, {"ETag": '"a"'}, b"nobody sees this"))
    assert answer.body == b""
    assert "Content-Length" not in answer.headers
    assert answer.headers["ETag"] == '"a"'


def test_the_answer_to_head_has_the_length_of_the_body_without_it() -> None:
    request = uvws.Request(
        method="HEAD", path="/", query="", headers=uvws.Headers(), peer_address=None
    )
    raw = encode_response(request, lambda _: uvws.Response(body="12345"), lambda *_: None)
    answer = parse_answer(raw)
    assert (answer.headers["Content-Length"], answer.body) == ("5", b"")


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_printed_with_what_it_has(kind: Any) -> None:
    text = repr(kind(404, {"A": "b"}, b"body"))
    assert text == f"uvws.{kind.__name__}(404, [('A', 'b')], b'body')"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"), [("status", "200 x\r\nA: b"), ("headers", {"A": "b"}), ("body", "text")]
)
def test_an_answer_cannot_be_changed(kind: Any, name: str, value: Any) -> None:
    answer = kind(404, {"A": "b"}, b"body")
    before = answer.encode()
    with pytest.raises(AttributeError):
        setattr(answer, name, value)
    assert answer.encode() == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_headers_of_an_answer_cannot_be_added_to(kind: Any) -> None:
    assert kind(404, {"A": "b"}, b"").headers == (("A", "b"),)


def test_a_request_cannot_be_changed() -> None:
    request = uvws.Request(
        method="GET", path="/", query="", headers=uvws.Headers(), peer_address="192.0.2.1"
    )
    with pytest.raises(AttributeError):
        request.path = "/other"  # type: ignore[misc]
