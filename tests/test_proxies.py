"""What `proxy=` may be, and what the environment asks for; no connection is made here."""

from __future__ import annotations

import os
import traceback
from typing import Any

import pytest

from uvws.proxies import HTTP, SOCKS5, Proxy, ProxyOptions, parse_proxy
from uvws.url import parse_url

SECRET = "geheim"


def chosen(url: str) -> str | None:
    """Return the host that the environment names for a URL."""
    proxy = ProxyOptions.checked(None, 1080).choose(parse_url(url))
    return None if proxy is None else proxy.host


# The argument


@pytest.mark.parametrize(
    ("value", "kind", "host", "port"),
    [
        ("proxy.example", HTTP, "proxy.example", 1080),
        ("proxy.example:3128", HTTP, "proxy.example", 3128),
        ("proxy.example:", HTTP, "proxy.example", 1080),
        ("Proxy.Example", HTTP, "proxy.example", 1080),
        ("grün.example", HTTP, "grün.example".encode("idna").decode(), 1080),
        ("192.0.2.1:8080", HTTP, "192.0.2.1", 8080),
        ("[2001:DB8::1]:8080", HTTP, "2001:db8::1", 8080),
        ("[::1]", HTTP, "::1", 1080),
        ("http://proxy.example:3128", HTTP, "proxy.example", 3128),
        ("http://proxy.example:3128/", HTTP, "proxy.example", 3128),
        ("HTTP://proxy.example", HTTP, "proxy.example", 1080),
        ("https://proxy.example", HTTP, "proxy.example", 1080),
        ("socks5://proxy.example", SOCKS5, "proxy.example", 1080),
        ("socks5h://[::1]:9050/", SOCKS5, "::1", 9050),
    ],
)
def test_a_proxy_is_taken_apart(value: str, kind: str, host: str, port: int) -> None:
    assert parse_proxy(value, 1080) == Proxy(kind, host, port)


@pytest.mark.parametrize(
    ("credentials", "user", "password"),
    [
        ("me:secret", b"me", b"secret"),
        ("me", b"me", b""),
        ("me:", b"me", b""),
        ("me:a:b", b"me", b"a:b"),
        ("me:a@b", b"me", b"a@b"),
        ("m%40e:%2f%3A%23", b"m@e", b"/:#"),
        ("me:gr%C3%BCn", b"me", "grün".encode()),
        ("me:grün", b"me", "grün".encode()),
        ("me:%ff", b"me", b"\xff"),
        ("me:\udcff", b"me", b"\xff"),
        ("me:100%", b"me", b"100%"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("scheme", ["", "http://", "https://", "socks5://"])
def test_user_and_password_are_percent_decoded(
    scheme: str, credentials: str, user: bytes, password: bytes
) -> None:
    proxy = parse_proxy(f"{scheme}{credentials}@proxy.example:1", 1080)
    assert (proxy.user, proxy.password) == (user, password)
    assert (proxy.host, proxy.port) == ("proxy.example", 1)


MALFORMED = [
    "ftp://h",
    "socks4://h",
    "socks://h",
    "://h",
    "http://",
    ":80",
    f"me:{SECRET}@",
    f"me:{SECRET}@:80",
    f"me:{SECRET}@h:0",
    f"me:{SECRET}@h:65536",
    f"me:{SECRET}@h:port",
    f"me:{SECRET}@h:-1",
    f"me:{SECRET}@h/path",
    f"me:{SECRET}@h?query",
    f"me:{SECRET}@h#fragment",
    f"http://me:{SECRET}/{SECRET}@h",
    f"http://me:{SECRET}#{SECRET}@h",
    f"ftp://me:{SECRET}@h",
    f"me:{SECRET}://h",
    f"me:{SECRET}@::1",
    f"me:{SECRET}@[::1",
    f"me:{SECRET}@[::1]x",
    f"me:{SECRET}@[::1]:x",
    f"me:{SECRET}@[nonsense]",
    f"me:{SECRET}@[fe80::1%eth0]",
    f"me:{SECRET}@a host",
    f"me:{SECRET}@h\n",
    f"me:{SECRET}@1.2.3",
    f"me:{SECRET}\ud800@h",
    f"me:{SECRET}%0a@h",
    f"m%3ae:{SECRET}@h",
    f"socks5://:{SECRET}@h",
    f"socks5://{'u' * 256}:{SECRET}@h",
    f"socks5://me:{SECRET * 60}@h",
]


@pytest.mark.parametrize("value", MALFORMED, ids=ascii)
def test_a_malformed_proxy_is_named_and_not_quoted(value: str) -> None:
    with pytest.raises(ValueError, match=r"^proxy (must|has)") as caught:
        ProxyOptions.checked(value, 1080)
    told = "".join(traceback.format_exception_only(caught.value))
    assert SECRET not in told
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("value", [5, b"proxy.example", ["proxy.example"], False])
def test_a_proxy_of_the_wrong_type(value: object) -> None:
    with pytest.raises(TypeError, match=r"^proxy must be"):
        ProxyOptions.checked(value, 1080)


@pytest.mark.parametrize("proxy", [None, "", "proxy.example:1"])
@pytest.mark.parametrize(
    ("port", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (65536, ValueError),
        ("80", TypeError),
        (80.0, TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_a_bad_proxy_port(proxy: Any, port: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^proxy_port must be"):
        ProxyOptions.checked(proxy, port)


def test_a_password_is_in_no_repr() -> None:
    options = ProxyOptions.checked(f"{SECRET}:{SECRET}@proxy.example", 1080)
    assert SECRET not in repr(options)


@pytest.mark.parametrize("url", ["ws://h/", "wss://h/"])
def test_a_proxy_that_is_given_is_for_every_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("http_proxy", "other.example")
    monkeypatch.setenv("https_proxy", "other.example")
    monkeypatch.setenv("no_proxy", "*")
    proxy = ProxyOptions.checked("proxy.example", 1080).choose(parse_url(url))
    assert proxy == Proxy(HTTP, "proxy.example", 1080)


def test_an_empty_proxy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "other.example")
    assert ProxyOptions.checked("", 1080).choose(parse_url("ws://h/")) is None


@pytest.mark.parametrize("given", [None, "proxy.example"])
@pytest.mark.parametrize("url", ["ws+unix:/socket", "wss+unix:/socket"])
def test_unix_sockets_need_no_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, given: str | None
) -> None:
    monkeypatch.setenv("all_proxy", "proxy.example")
    assert ProxyOptions.checked(given, 1080).choose(parse_url(url)) is None


# The environment


@pytest.mark.parametrize(
    ("variables", "plain", "secure"),
    [
        ({}, None, None),
        ({"http_proxy": "a"}, "a", None),
        ({"https_proxy": "a"}, None, "a"),
        ({"all_proxy": "a"}, "a", "a"),
        ({"http_proxy": "a", "https_proxy": "b", "all_proxy": "c"}, "a", "b"),
        ({"http_proxy": "a", "all_proxy": "c"}, "a", "c"),
        ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b"}, "a", "b"),
        ({"HTTP_PROXY": "a", "http_proxy": "b"}, "b", None),
        ({"ALL_PROXY": "a", "all_proxy": "b"}, "b", "b"),
        ({"ALL_PROXY": "a", "http_proxy": "b"}, "b", "a"),
        ({"http_proxy": ""}, None, None),
        ({"http_proxy": "", "HTTP_PROXY": "a"}, None, None),
        ({"ws_proxy": "a", "wss_proxy": "a", "socks_proxy": "a", "ftp_proxy": "a"}, None, None),
    ],
)
def test_the_environment_names_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    plain: str | None,
    secure: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (chosen("ws://h/"), chosen("wss://h/")) == (plain, secure)


@pytest.mark.parametrize(("name", "host"), [("HTTP_PROXY", None), ("http_proxy", "a")])
def test_a_cgi_program_does_not_take_its_proxy_from_a_client(
    monkeypatch: pytest.MonkeyPatch, name: str, host: str | None
) -> None:
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    monkeypatch.setenv(name, "a")
    assert chosen("ws://h/") == host


@pytest.mark.parametrize(
    ("no_proxy", "url", "bypassed"),
    [
        ("", "ws://h.example/", False),
        ("*", "ws://h.example/", True),
        ("h.example", "ws://h.example/", True),
        ("H.Example", "ws://h.example/", True),
        ("example", "ws://h.example/", True),
        (".example", "ws://h.example/", True),
        ("xample", "ws://h.example/", False),
        ("a.test, h.example", "ws://h.example/", True),
        ("h.example", "ws://h.example./", True),
        ("h.example:80", "ws://h.example/", True),
        ("h.example:443", "wss://h.example/", True),
        ("h.example:443", "ws://h.example/", False),
        ("192.0.2.1", "ws://192.0.2.1:81/", True),
        ("::1", "ws://[::1]/", True),
        ("[::1]", "ws://[::1]/", True),
        ("[::1]:80", "ws://[::1]/", True),
        ("[::1]:81", "ws://[::1]/", False),
        ("::2", "ws://[::1]/", False),
        ("1", "ws://[::1]/", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_names_who_needs_none(
    monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str, url: str, bypassed: bool
) -> None:
    monkeypatch.setenv("all_proxy", "a")
    monkeypatch.setenv(name, no_proxy)
    assert chosen(url) == (None if bypassed else "a")


@pytest.mark.parametrize("value", MALFORMED, ids=ascii)
def test_a_malformed_variable_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(os, "environ", {"ALL_PROXY": value})
    with pytest.raises(ValueError, match=r"^the environment variable all_proxy (must|has)") as told:
        chosen("ws://h/")
    assert SECRET not in str(told.value)


def test_a_malformed_variable_that_is_not_asked_for_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("all_proxy", "ftp://h")
    monkeypatch.setenv("http_proxy", "a")
    monkeypatch.setenv("no_proxy", "excepted")
    assert chosen("ws://h/") == "a"
    assert chosen("wss://excepted/") is None
