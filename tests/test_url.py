"""`uvws.url`: which URLs are accepted, what they come to, and what is said about the others."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from uvws.errors import Error, InvalidURL
from uvws.url import URL, parse_url

# ---------------------------------------------------------------- TCP


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "path"),
    [
        ("ws://example.com", False, "example.com", 80, "/"),
        ("wss://example.com", True, "example.com", 443, "/"),
        ("WSS://Example.COM/Path", True, "example.com", 443, "/Path"),
        ("ws://example.com:8080/a/b?c=d&e", False, "example.com", 8080, "/a/b?c=d&e"),
        ("ws://example.com?c=d", False, "example.com", 80, "/?c=d"),
        ("ws://example.com:1?", False, "example.com", 1, "/?"),
        ("ws://example.com:65535/", False, "example.com", 65535, "/"),
        ("ws://example.com:00080/", False, "example.com", 80, "/"),
        ("ws://example.com:/", False, "example.com", 80, "/"),
        ("ws://example.com./", False, "example.com.", 80, "/"),
        ("ws://my_host-1/", False, "my_host-1", 80, "/"),
        ("ws://127.0.0.1:9/", False, "127.0.0.1", 9, "/"),
        ("ws://[::1]/", False, "::1", 80, "/"),
        ("wss://[2001:DB8:0::1]:8443/x", True, "2001:db8::1", 8443, "/x"),
        ("ws://h/a:b@c//[d]?e:f@g/h?i", False, "h", 80, "/a:b@c//[d]?e:f@g/h?i"),
        ("ws://h/%20%C3%A9%zz%", False, "h", 80, "/%20%C3%A9%zz%"),
    ],
)
def test_a_url_is_taken_apart(url: str, secure: bool, host: str, port: int, path: str) -> None:
    assert parse_url(url) == URL(secure, host, port, path, None)


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("ws://example.com", "example.com"),
        ("ws://example.com:80", "example.com"),
        ("wss://example.com:443", "example.com"),
        ("ws://example.com:443", "example.com:443"),
        ("wss://example.com:80", "example.com:80"),
        ("ws://[::1]", "[::1]"),
        ("ws://[::1]:8080", "[::1]:8080"),
        ("ws+unix:/run/s", "localhost"),
        ("wss+unix:/run/s", "localhost"),
    ],
)
def test_the_host_header_has_the_port_only_if_it_is_not_the_default(url: str, header: str) -> None:
    assert parse_url(url).host_header == header


def test_a_host_that_is_not_ascii_is_encoded_with_idna_2003() -> None:
    assert parse_url("ws://B\xfccher.example/").host == "xn--bcher-kva.example"
    assert parse_url("ws://stra\xdfe.example/").host == "strasse.example"
    assert parse_url("ws://\uff45xample\u3002com/").host == "example.com"


def test_a_path_that_is_not_ascii_is_percent_encoded_as_utf_8() -> None:
    assert (
        parse_url("ws://h/\xe9/%41?\u20ac=\U0001f600").path == "/%C3%A9/%41?%E2%82%AC=%F0%9F%98%80"
    )


def test_a_parsed_url_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_url("ws://h").port = 1  # type: ignore[misc]


# ---------------------------------------------------------------- Unix sockets


@pytest.mark.parametrize(
    ("url", "secure", "unix_path", "path"),
    [
        ("ws+unix:/run/my.sock", False, "/run/my.sock", "/"),
        ("ws+unix:///run/my.sock", False, "/run/my.sock", "/"),
        ("wss+unix:/run/my.sock", True, "/run/my.sock", "/"),
        ("WS+UNIX:/Run/S:", False, "/Run/S", "/"),
        ("ws+unix:///run/my.sock:/request/path", False, "/run/my.sock", "/request/path"),
        ("ws+unix:/run/s:/a:b?c=d:e", False, "/run/s", "/a:b?c=d:e"),
        ("ws+unix:/run/s:?c=d", False, "/run/s", "/?c=d"),
        ("ws+unix:/a%20b%3Ac%3Fd%25%23", False, "/a b:c?d%#", "/"),
        ("ws+unix:/r\xe9:/\xe9", False, "/r\xe9", "/%C3%A9"),
        ("ws+unix:/run/u@h", False, "/run/u@h", "/"),
    ],
)
def test_a_unix_socket_url_is_taken_apart(
    url: str, secure: bool, unix_path: str, path: str
) -> None:
    expected = URL(secure, "localhost", 443 if secure else 80, path, unix_path)
    assert parse_url(url) == expected


def test_a_socket_path_may_have_107_bytes_and_no_more() -> None:
    longest = "/" + "a" * 106
    assert parse_url(f"ws+unix:{longest}:/x").unix_path == longest
    with pytest.raises(InvalidURL, match="108 bytes; at most 107"):
        parse_url(f"ws+unix:{longest}b")


def test_the_length_of_a_socket_path_is_counted_in_bytes_not_characters() -> None:
    with pytest.raises(InvalidURL, match="at most 107"):
        parse_url("ws+unix:/" + "\xe9" * 54)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "must start with ws://"),
        ("example.com", "must start with ws://"),
        ("ws", "must start with ws://"),
        ("//example.com", "must start with ws://"),
        ("http://example.com", "must start with ws://"),
        ("wsss://example.com", "must start with ws://"),
        ("ws:example.com", "must have // after ws:"),
        ("ws:/example.com", "must have // after ws:"),
        ("ws://", "no host"),
        ("ws:///path", "no host"),
        ("ws://:80/", "no host"),
        ("ws://?q", "no host"),
        ("ws://h:0/", "port 0; it must be from 1 to 65535"),
        ("ws://h:65536/", "port 65536; it must be from 1 to 65535"),
        ("ws://h:70000/", "port 70000; it must be from 1 to 65535"),
        ("ws://h:" + "9" * 5000, "it must be from 1 to 65535"),
        ("ws://h:notaport/", "port 'notaport'; it must be a number"),
        ("ws://h:-1/", "port '-1'; it must be a number"),
        ("ws://h:+1/", "it must be a number"),
        ("ws://h:8_0/", "it must be a number"),
        ("ws://h:\u0661/", "it must be a number"),
        ("ws://h:1:2/", "more than one ':'"),
        ("ws://::1/", "IPv6 needs brackets"),
        ("ws://user@h/", "user or password"),
        ("ws://user:pw@h/", "user or password"),
        ("ws://@h/", "user or password"),
        ("ws://[::1/", "'[' without ']'"),
        ("ws://[]/", "no valid IPv6 address"),
        ("ws://[::g]/", "no valid IPv6 address"),
        ("ws://[1.2.3.4]/", "no valid IPv6 address"),
        ("ws://[fe80::1%25eth0]/", "zone id"),
        ("ws://[fe80::1%eth0]/", "zone id"),
        ("ws://[::1]x/", "only :port may follow"),
        ("ws://[::1]80/", "only :port may follow"),
        ("ws://::1]/", "IPv6 needs brackets"),
        ("ws://h]/", "host name has labels"),
        ("ws://a..b/", "host name has labels"),
        ("ws://.a/", "host name has labels"),
        ("ws://./", "host name has labels"),
        ("ws://-a/", "host name has labels"),
        ("ws://a%41/", "host name has labels"),
        ("ws://a\\b/", "host name has labels"),
        ("ws://" + "a" * 64, "host name has labels"),
        ("ws://" + "a." * 127 + "a", "host name has labels"),
        ("ws://1.2.3/", "no valid IPv4 address"),
        ("ws://256.1.1.1/", "no valid IPv4 address"),
        ("ws://example.1/", "no valid IPv4 address"),
        ("ws://\u2100.example/", "host name has labels"),  # IDNA makes it "a/c"
        ("ws://\xfc..example/", "IDNA cannot encode"),
        ("ws://\ud800/", "IDNA cannot encode"),
        ("ws://a\u2028b/", "IDNA cannot encode"),
        ("ws://h/#fragment", "fragment"),
        ("ws://h/#", "fragment"),
        ("ws://h#", "fragment"),
        ("ws+unix:/s:/#x", "fragment"),
        (" ws://h/", "a space at position 0"),
        ("ws://h/a b", "a space at position 8"),
        ("ws://h/\n", "control character '\\n'"),
        ("ws://h/\r\nX: y", "control character '\\r'"),
        ("ws://h/\0", "control character '\\x00'"),
        ("ws://h/\x7f", "control character '\\x7f'"),
        ("ws://h/\x85", "control character '\\x85'"),
        ("w\ts://h/", "control character '\\t'"),
        ("ws://h/\ud800", "lone surrogate"),
        ("ws+unix:", "absolute path"),
        ("ws+unix:///", "name a socket"),
        ("ws+unix:run/s", "absolute path"),
        ("ws+unix://host/run/s", "must not have a host"),
        ("ws+unix://", "must not have a host"),
        ("ws+unix:/run/s?q", "must have ':' between"),
        ("ws+unix:/run/s:path", "must have '/' after the ':'"),
        ("ws+unix:/a%00b", "must not have %00"),
    ],
)
def test_a_malformed_url_is_refused_with_the_reason(url: str, complaint: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(url)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("url ")


@pytest.mark.parametrize("url", [None, 1, b"ws://h/", ["ws://h/"]])
def test_a_url_that_is_no_str_is_a_type_error(url: Any) -> None:
    with pytest.raises(TypeError, match=r"^url must be str, not "):
        parse_url(url)


def test_an_invalid_url_is_both_an_error_of_ours_and_a_value_error() -> None:
    assert issubclass(InvalidURL, Error)
    assert issubclass(InvalidURL, ValueError)


def test_no_message_quotes_a_password_or_a_query() -> None:
    for url in ("ws://user:secret@h/", "ws://h:0/?token=secret", "ws://h/?token=secret#"):
        with pytest.raises(InvalidURL) as caught:
            parse_url(url)
        assert "secret" not in str(caught.value)
