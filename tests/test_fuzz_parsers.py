"""What the parsers in Python make of generated input: properties that hold for all of it.

A run of the suite takes the same few examples each time. `make fuzz` takes UVWS_FUZZ_EXAMPLES for
each property, and other ones each time.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from uvws import Deflate, Headers, InvalidURL
from uvws.compression import Agreed, NegotiationError, answer, check_answer, offer
from uvws.headers import encode_headers, parse_headers
from uvws.options import close_code, close_reason, protocols
from uvws.proxies import parse_proxy
from uvws.upgrade import Accept, Upgrades
from uvws.url import parse_url

EXAMPLES = int(os.environ.get("UVWS_FUZZ_EXAMPLES", "0"))

few_or_many = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
tokens = st.text(TOKEN, min_size=1, max_size=20)
latin = st.characters(max_codepoint=0xFF)
bits = st.integers(9, 15)

# --- URLs ---------------------------------------------------------------------------------------

hosts = st.one_of(
    st.from_regex(
        r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,20}[a-zA-Z0-9])?(\.[a-z]{1,9}){0,3}", fullmatch=True
    ),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.text(max_size=12),
)
urls = st.one_of(
    st.text(max_size=60),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["ws://", "wss://", "WS://", "ws+unix:", "wss+unix://", "http://", "ws:"]),
        hosts,
        st.one_of(st.just(""), st.integers(-1, 70000).map(":{}".format), st.text(max_size=4)),
        st.one_of(st.just(""), st.text(max_size=30).map("/{}".format), st.just("?a=b")),
    ),
)


@few_or_many
@given(urls)
@example("ws://[::1")
@example("ws://\ud800/")
@example("ws://a/\udcff")
def test_a_url_is_taken_apart_or_refused_as_invalid(url: str) -> None:
    try:
        parsed = parse_url(url)
    except InvalidURL:
        return
    assert parsed.path.startswith("/")
    assert parsed.path.isascii()
    assert parsed.host_header.isascii()
    assert 1 <= parsed.port <= 65535
    assert not set(map(ord, parsed.path + parsed.host_header)) & {*range(0x21), 0x7F}


@few_or_many
@given(urls)
def test_a_url_is_read_as_the_standard_library_does(url: str) -> None:
    try:
        parsed = parse_url(url)
    except InvalidURL:
        return
    assume(parsed.unix_path is None)
    split = urllib.parse.urlsplit(url)
    assert split.scheme == ("wss" if parsed.secure else "ws")
    if parsed.host.isascii() and split.hostname is not None and split.hostname.isascii():
        assert split.hostname == parsed.host or ":" in parsed.host
    assert (split.port or (443 if parsed.secure else 80)) == parsed.port
    query = f"?{split.query}" if "?" in url else ""
    path = (split.path or "/") + query
    assert path == parsed.path or not path.isascii()


@few_or_many
@given(urls)
def test_a_parsed_url_reads_the_same_again(url: str) -> None:
    try:
        parsed = parse_url(url)
    except InvalidURL:
        return
    assume(parsed.unix_path is None)
    scheme = "wss" if parsed.secure else "ws"
    assert parse_url(f"{scheme}://{parsed.host_header}{parsed.path}") == parsed


# --- Headers ------------------------------------------------------------------------------------

names = st.one_of(tokens, st.text(max_size=10))
values = st.one_of(st.text(latin, max_size=30), st.text(max_size=30))


@few_or_many
@given(st.lists(st.tuples(names, values), max_size=6), st.booleans())
def test_headers_that_are_sent_are_lines_without_others_in_them(
    pairs: list[tuple[str, str]], handshake: bool
) -> None:
    try:
        encoded = encode_headers(pairs, "headers", handshake=handshake)
    except ValueError:
        return
    lines = "".join(f"{name}: {value}\r\n" for name, value in encoded).encode("latin-1")
    assert lines.count(b"\n") == lines.count(b"\r") == len(pairs)
    assert b"\0" not in lines
    for line, (name, value) in zip(lines.split(b"\r\n"), pairs, strict=False):
        got_name, _, got_value = line.decode("latin-1").partition(": ")
        assert (got_name, got_value) == (name, value.strip(" \t"))


@few_or_many
@given(st.lists(st.tuples(tokens, st.text(latin.filter(lambda c: c != "\0"), max_size=20))))
def test_headers_that_are_received_are_all_there_in_their_order(
    pairs: list[tuple[str, str]],
) -> None:
    raw = "".join(f"{name}\0{value}\0" for name, value in pairs).encode("latin-1")
    headers = parse_headers(raw)
    expected = [(name, value.strip(" \t")) for name, value in pairs]
    assert list(headers.items()) == expected
    for name, _ in expected:
        same = [value for other, value in expected if other.lower() == name.lower()]
        assert headers.get_all(name.swapcase()) == same
        assert headers[name.upper()] == same[0]


# --- Proxies and options ------------------------------------------------------------------------

proxy_texts = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "http://", "socks5://", "socks5h://", "https://", "ftp://"]),
        st.one_of(st.just(""), st.text(max_size=8).map("{}@".format)),
        hosts,
        st.one_of(st.just(""), st.integers(0, 70000).map(":{}".format), st.just("/")),
    ),
)


@few_or_many
@given(proxy_texts)
def test_a_proxy_is_taken_apart_or_refused_without_being_quoted(text: str) -> None:
    try:
        proxy = parse_proxy(text, 1080, "proxy")
    except ValueError as error:
        said = str(error)
    else:
        said = ""
    if said:
        credentials = text.rpartition("@")[0].rpartition("//")[2]
        assert "proxy" in said
        assert len(credentials) < 5 or credentials not in said
        return
    assert 1 <= proxy.port <= 65535
    assert proxy.host.isascii()
    assert proxy.host == proxy.host.lower()
    assert (proxy.user is None) == ("@" not in text)


@few_or_many
@given(st.one_of(tokens, st.text(max_size=9), st.lists(names, max_size=4), st.integers()))
def test_subprotocols_are_tokens_and_do_not_repeat(given_value: object) -> None:
    try:
        found = protocols(given_value)
    except (TypeError, ValueError):
        return
    assert len(set(found)) == len(found)
    assert all(name and set(name) <= set(TOKEN) for name in found)


@few_or_many
@given(st.text(max_size=200).filter(lambda text: text.isprintable() or text.isascii()))
def test_a_close_reason_is_cut_between_characters(reason: str) -> None:
    encoded = close_reason(reason)
    assert len(encoded) <= 123
    assert reason.startswith(encoded.decode())
    assert len(encoded) > 119 or encoded.decode() == reason


@few_or_many
@given(st.integers(-10, 6000))
def test_a_close_code_is_one_that_may_be_sent(code: int) -> None:
    allowed = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]
    if code in allowed:
        assert close_code(code) == code
    else:
        with pytest.raises(ValueError, match="code"):
            close_code(code)


# --- Compression: against a reader of RFC 7692 that knows nothing else --------------------------

NO_TAKEOVER = ("server_no_context_takeover", "client_no_context_takeover")
BITS = ("server_max_window_bits", "client_max_window_bits")
parameter_names = st.sampled_from([*NO_TAKEOVER, *BITS, "x", ""])
parameter_values = st.one_of(
    st.none(), st.integers(6, 17).map(str), st.sampled_from(["", '"10"', '"', "08", "1 0", "٩"])
)
deflates = st.builds(
    Deflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=bits,
    client_max_window_bits=bits,
)


@st.composite
def extension_lists(draw: st.DrawFn) -> str:
    extensions = []
    for _ in range(draw(st.integers(1, 3))):
        parts = [draw(st.sampled_from(["permessage-deflate"] * 4 + ["x-other", "", " "]))]
        for name, value in draw(st.lists(st.tuples(parameter_names, parameter_values), max_size=4)):
            parts.append(name if value is None else f"{name}={value}")
        extensions.append(draw(st.sampled_from([";", "; ", " ;\t"])).join(parts))
    return draw(st.sampled_from([",", ", "])).join(extensions)


texts_of_extensions = st.one_of(extension_lists(), st.text(latin, max_size=60))


def read_extensions(text: str) -> Iterator[tuple[str, dict[str, str | None] | None]]:
    """Yield each extension with its parameters, None for what RFC 7692 says must be declined."""
    for element in text.split(","):
        name, *parts = (part.strip() for part in element.split(";"))
        if not element.strip():
            continue
        parameters: dict[str, str | None] = {}
        fine = True
        for part in parts:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if equals and key in BITS:
                fine &= value in {"8", "9", "10", "11", "12", "13", "14", "15"}
            elif equals or key not in (*NO_TAKEOVER, BITS[1]):
                fine = False
            fine &= key not in parameters
            parameters[key] = value if equals else None
        yield name, parameters if fine else None


def check_agreed(agreed: Agreed, parameters: dict[str, str | None]) -> None:
    """What the two ends agreed on keeps within what one of them said."""
    assert not (agreed.server_takeover and NO_TAKEOVER[0] in parameters)
    assert agreed.server_bits <= int(parameters.get(BITS[0]) or 15)
    assert agreed.client_bits <= int(parameters.get(BITS[1]) or 15)


@few_or_many
@given(deflates, texts_of_extensions)
def test_a_server_agrees_to_what_rfc_7692_allows_only(deflate: Deflate, text: str) -> None:
    found = answer(deflate, Headers([("Sec-WebSocket-Extensions", text)]))
    offers = [
        parameters
        for name, parameters in read_extensions(text)
        if name == "permessage-deflate" and parameters is not None
    ]
    if found is None:
        # zlib has no window of 256 bytes to write with.
        assert all(offered.get(BITS[0]) == "8" for offered in offers)
        return
    said, agreed = found
    offered = next(each for each in offers if each.get(BITS[0]) != "8")
    check_agreed(agreed, offered)
    ((name, parameters),) = read_extensions(said)
    assert name == "permessage-deflate"
    assert parameters is not None
    check_agreed(agreed, parameters)
    # Section 7.1.2.2: an answer may limit the client's window only where the offer lets it.
    assert BITS[1] not in parameters or BITS[1] in offered
    # Section 7.1.1.1: this one must be agreed to, or the offer declined.
    assert NO_TAKEOVER[0] not in offered or NO_TAKEOVER[0] in parameters
    # Section 7.1.2.1: so must this.
    assert BITS[0] not in offered or BITS[0] in parameters


@few_or_many
@given(deflates, texts_of_extensions)
def test_a_client_agrees_to_what_rfc_7692_allows_only(deflate: Deflate, text: str) -> None:
    answers = list(read_extensions(text))
    try:
        agreed = check_answer(deflate, Headers([("Sec-WebSocket-Extensions", text)]))
    except NegotiationError:
        return
    if agreed is None:
        assert not answers
        return
    ((name, parameters),) = answers
    assert name == "permessage-deflate"
    assert parameters is not None
    check_agreed(agreed, parameters)
    assert parameters.get(BITS[1], "15") is not None, "an answer must say how large"
    assert int(parameters.get(BITS[0]) or 15) <= deflate.server_max_window_bits
    assert NO_TAKEOVER[0] in parameters or not deflate.server_no_context_takeover


@few_or_many
@given(deflates, deflates)
def test_two_of_ours_agree(client: Deflate, server: Deflate) -> None:
    said = offer(client)
    found = answer(server, Headers([("Sec-WebSocket-Extensions", said)]))
    assert found is not None
    text, at_server = found
    at_client = check_answer(client, Headers([("Sec-WebSocket-Extensions", text)]))
    assert at_client is not None
    assert at_client.server_takeover == at_server.server_takeover
    # What either does with less than it may is its own affair.
    assert at_client.server_bits >= at_server.server_bits
    assert at_client.client_takeover <= at_server.client_takeover
    assert at_client.client_bits <= at_server.client_bits


# --- The server's decision ----------------------------------------------------------------------


@few_or_many
@given(
    st.lists(tokens, max_size=3, unique=True),
    st.lists(st.tuples(st.sampled_from(["Sec-WebSocket-Protocol", "X"]), values), max_size=4),
    st.one_of(st.booleans(), st.none(), st.dictionaries(names, values, max_size=3), st.integers()),
)
def test_every_upgrade_is_accepted_or_refused_in_whole_lines(
    offered: list[str], pairs: list[tuple[str, str]], says: object
) -> None:
    reported: list[BaseException] = []
    upgrades = Upgrades(offered, [], None, lambda headers: says)
    decision = upgrades.decide(Headers(pairs), lambda message, error: reported.append(error))
    if not isinstance(decision, Accept):
        assert decision.startswith(b"HTTP/1.1 500 " if reported else b"HTTP/1.1 403 ")
        return
    assert not reported
    assert decision.protocol is None or decision.protocol in offered
    lines = decision.lines.split(b"\r\n")
    assert lines[-1] == b""
    assert not any(b"\n" in line or b"\r" in line or b":" not in line for line in lines[:-1])
