"""What ends agree on before they compress: RFC 7692, section 7.1."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from uvws._core import lib

import uvws
from support import Recorder, Runner, no_callbacks, url_of
from support.patches import compresses
from support.wire import RawServer, dial, upgrade_request
from uvws.compression import Agreed, NegotiationError, answer, check_answer, offer
from uvws.headers import Headers

HEADER = "Sec-WebSocket-Extensions"
PLAIN = "permessage-deflate"

BITS = range(9, 16)
sides = pytest.mark.parametrize("side", ["server", "client"])


def extensions(*lines: str) -> Headers:
    return Headers([(HEADER, line) for line in lines])


def answered(*offers: str, **options: Any) -> str | None:
    """Return what a server with these options says to an offer."""
    found = answer(uvws.Deflate(**options), extensions(*offers))
    return found[0] if found else None


def agreed(*offers: str, **options: Any) -> Agreed:
    """Return what a server with these options makes of an offer."""
    found = answer(uvws.Deflate(**options), extensions(*offers))
    assert found is not None
    return found[1]


def taken(*answers: str, **options: Any) -> Agreed | None:
    """Return what a client with these options makes of an answer."""
    return check_answer(uvws.Deflate(**options), extensions(*answers))


# --- What the user says ---------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_rfc_and_of_zlib() -> None:
    assert uvws.Deflate() == uvws.Deflate(
        server_no_context_takeover=False,
        client_no_context_takeover=False,
        server_max_window_bits=15,
        client_max_window_bits=15,
        level=6,
        memory_level=8,
        threshold=0,
    )


def test_options_cannot_be_changed_afterwards() -> None:
    deflate = uvws.Deflate()
    with pytest.raises(AttributeError):
        deflate.level = 9  # type: ignore[misc]


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        uvws.Deflate(True)  # type: ignore[misc]


LIMITS = {
    "server_max_window_bits": (9, 15),
    "client_max_window_bits": (9, 15),
    "level": (0, 9),
    "memory_level": (1, 9),
    "threshold": (0, 1 << 62),
}


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_at_their_limits_are_taken(name: str) -> None:
    for value in LIMITS[name]:
        assert getattr(uvws.Deflate(**{name: value}), name) == value


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_beyond_their_limits_are_refused(name: str) -> None:
    lowest, highest = LIMITS[name]
    for value in (lowest - 1, highest + 1, -1, 1 << 80):
        with pytest.raises(ValueError, match=f"^{name} must be {lowest} to {highest}, not {value}"):
            uvws.Deflate(**{name: value})


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [None, "12", 12.0, True])
def test_what_is_no_int_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be an int, not {type(value).__name__}$"):
        uvws.Deflate(**{name: value})


@pytest.mark.parametrize("name", ["server_no_context_takeover", "client_no_context_takeover"])
@pytest.mark.parametrize("value", [None, 0, 1, "no"])
def test_what_is_no_bool_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a bool"):
        uvws.Deflate(**{name: value})


@pytest.mark.skipif(lib.uvws_has_deflate(), reason="this libwebsockets does")
def test_compression_is_refused_where_libwebsockets_does_not_let_it_through(
    runner: Runner,
) -> None:
    for ask in ways_to_ask(runner.context()).values():
        with pytest.raises(ValueError, match="needs the libwebsockets that comes with uvws"):
            ask(compression="deflate")


def ways_to_ask(context: uvws.Context) -> dict[str, Callable[..., object]]:
    return {
        "connect": lambda **options: context.connect("ws://127.0.0.1:1/", **options),
        "listen": lambda **options: context.listen(host="127.0.0.1", **options),
        "adopt": lambda **options: context.adopt(None, **options),
    }


@pytest.mark.parametrize("how", ["connect", "listen", "adopt"])
@pytest.mark.parametrize("value", [True, 1, b"deflate", {"level": 6}, uvws.Deflate])
def test_compression_of_another_type_is_refused(runner: Runner, how: str, value: Any) -> None:
    wanted = 'compression must be None, "deflate" or uvws.Deflate, not '
    with pytest.raises(TypeError, match=f"^{re.escape(wanted + type(value).__name__)}$"):
        ways_to_ask(runner.context())[how](compression=value)


@pytest.mark.parametrize("how", ["connect", "listen", "adopt"])
@pytest.mark.parametrize("value", ["", "gzip", "Deflate", "permessage-deflate"])
def test_compression_by_another_name_is_refused(runner: Runner, how: str, value: str) -> None:
    wanted = f'compression must be None, "deflate" or uvws.Deflate, not {value!r}'
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
        ways_to_ask(runner.context())[how](compression=value)


# --- A client's offer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "client_max_window_bits"),
        (
            {"server_no_context_takeover": True},
            "server_no_context_takeover; client_max_window_bits",
        ),
        (
            {"client_no_context_takeover": True},
            "client_no_context_takeover; client_max_window_bits",
        ),
        ({"server_max_window_bits": 9}, "server_max_window_bits=9; client_max_window_bits"),
        ({"client_max_window_bits": 14}, "client_max_window_bits=14"),
        (
            {
                "server_no_context_takeover": True,
                "client_no_context_takeover": True,
                "server_max_window_bits": 10,
                "client_max_window_bits": 11,
            },
            (
                "server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=10; client_max_window_bits=11"
            ),
        ),
        ({"level": 1, "memory_level": 1, "threshold": 100}, "client_max_window_bits"),
    ],
)
def test_an_offer_says_what_differs_from_the_defaults(
    options: dict[str, Any], expected: str
) -> None:
    assert offer(uvws.Deflate(**options)) == f"{PLAIN}; {expected}"


# --- A server's answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ("", ""),
        ("; server_no_context_takeover", "; server_no_context_takeover"),
        ("; client_no_context_takeover", "; client_no_context_takeover"),
        ("; client_max_window_bits", ""),
        ("; client_max_window_bits=15", ""),
        ("; client_max_window_bits=8", "; client_max_window_bits=8"),
        ("; server_max_window_bits=15", "; server_max_window_bits=15"),
        *((f"; server_max_window_bits={bits}",) * 2 for bits in BITS),
        *((f"; client_max_window_bits={bits}",) * 2 for bits in range(9, 15)),
        ('; server_max_window_bits="10"', "; server_max_window_bits=10"),
        (";server_max_window_bits=10", "; server_max_window_bits=10"),
        (" ; server_max_window_bits = 10 ", "; server_max_window_bits=10"),
        (
            (
                "; client_max_window_bits=9; server_max_window_bits=10; "
                "client_no_context_takeover; server_no_context_takeover"
            ),
            (
                "; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=10; client_max_window_bits=9"
            ),
        ),
    ],
)
def test_a_server_answers_what_was_offered(offered: str, expected: str) -> None:
    assert answered(PLAIN + offered) == PLAIN + expected


@pytest.mark.parametrize(
    "offered",
    [
        "server_max_window_bits",  # the value may be left out for the client's only
        "server_max_window_bits=",
        'server_max_window_bits=""',
        "server_max_window_bits=7",
        "server_max_window_bits=8",  # zlib does not write it
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=+10",
        "server_max_window_bits=10.0",
        "server_max_window_bits=1 0",
        'server_max_window_bits="10',
        'server_max_window_bits=10"',
        "server_max_window_bits='10'",
        "client_max_window_bits=",
        'client_max_window_bits=""',
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=ten",
        "client_max_window_bits=\u0661\u0660",  # digits, but not of ASCII
        "server_no_context_takeover=1",
        "server_no_context_takeover=",
        'client_no_context_takeover="true"',
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=10",
        "server_max_window_bits=10; server_max_window_bits=10",
        "no_such_parameter",
        "no_such_parameter=1",
        "Server_No_Context_Takeover",
        "",
        "; client_max_window_bits",
        "=10",
        "server max window bits=10",
    ],
)
def test_an_offer_that_a_server_cannot_take_is_declined(offered: str) -> None:
    assert answered(f"{PLAIN}; {offered}") is None


@pytest.mark.parametrize(
    "offered",
    ["", ",", "permessage-bzip2", "deflate-frame", "x-permessage-deflate", "permessage-deflate2"],
)
def test_extensions_of_other_names_are_not_answered(offered: str) -> None:
    assert answered(offered) is None


def test_nothing_offered_is_not_answered() -> None:
    assert answered() is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((f"{PLAIN}; server_max_window_bits=10, {PLAIN}",), f"{PLAIN}; server_max_window_bits=10"),
        ((f"{PLAIN}; server_max_window_bits=8, {PLAIN}",), PLAIN),
        ((f"{PLAIN}; unknown, {PLAIN}; client_no_context_takeover, {PLAIN}",),
         f"{PLAIN}; client_no_context_takeover"),
        ((f"foo, bar; x=1, {PLAIN}, baz",), PLAIN),
        ((f", ,{PLAIN},",), PLAIN),
        (
            ("foo", f"{PLAIN}; server_max_window_bits=9", PLAIN),
            f"{PLAIN}; server_max_window_bits=9",
        ),
        ((f"{PLAIN}; unknown", PLAIN), PLAIN),
    ],
)  # fmt: skip
def test_the_first_offer_that_can_be_taken_is_taken(lines: tuple[str, ...], expected: str) -> None:
    assert answered(*lines) == expected


@pytest.mark.parametrize("bits", BITS)
def test_a_server_does_not_exceed_its_own_window_or_the_clients(bits: int) -> None:
    for own in BITS:
        offered = f"{PLAIN}; server_max_window_bits={bits}"
        smaller = min(bits, own)
        assert answered(offered, server_max_window_bits=own) == (
            f"{PLAIN}; server_max_window_bits={smaller}"
        )
        assert agreed(offered, server_max_window_bits=own).server_bits == smaller
        assert agreed(PLAIN, server_max_window_bits=own).server_bits == own


@pytest.mark.parametrize("bits", BITS)
def test_a_server_asks_for_a_smaller_window_of_clients_that_know_how(bits: int) -> None:
    said = "" if bits == 15 else f"; client_max_window_bits={bits}"
    assert answered(f"{PLAIN}; client_max_window_bits", client_max_window_bits=bits) == PLAIN + said
    assert agreed(f"{PLAIN}; client_max_window_bits", client_max_window_bits=bits) == Agreed(
        server_takeover=True, client_takeover=True, server_bits=15, client_bits=bits
    )


@pytest.mark.parametrize("bits", BITS)
def test_a_server_takes_the_smaller_window_that_a_client_announces(bits: int) -> None:
    for own in BITS:
        found = agreed(f"{PLAIN}; client_max_window_bits={bits}", client_max_window_bits=own)
        assert found.client_bits == min(bits, own)


@pytest.mark.parametrize("bits", range(9, 15))
def test_a_client_that_does_not_know_how_keeps_its_window(bits: int) -> None:
    # Section 7.1.2.2: the answer must not have the parameter then.
    assert answered(PLAIN, client_max_window_bits=bits) == PLAIN
    assert agreed(PLAIN, client_max_window_bits=bits).client_bits == 15


def test_a_server_turns_takeover_off_where_either_end_wants_that() -> None:
    both = "; server_no_context_takeover; client_no_context_takeover"
    options = {"server_no_context_takeover": True, "client_no_context_takeover": True}
    off = Agreed(server_takeover=False, client_takeover=False, server_bits=15, client_bits=15)
    assert answered(PLAIN, **options) == answered(PLAIN + both) == PLAIN + both
    assert agreed(PLAIN, **options) == agreed(PLAIN + both) == off


# --- What a client makes of the answer ------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", (True, True, 15, 15)),
        ("; server_no_context_takeover", (False, True, 15, 15)),
        ("; client_no_context_takeover", (True, False, 15, 15)),
        *((f"; server_max_window_bits={bits}", (True, True, bits, 15)) for bits in range(8, 16)),
        *((f"; client_max_window_bits={bits}", (True, True, 15, bits)) for bits in range(8, 16)),
        ('; client_max_window_bits="10"', (True, True, 15, 10)),
    ],
)
def test_a_client_takes_what_it_offered(said: str, expected: tuple[bool, bool, int, int]) -> None:
    assert taken(PLAIN + said) == Agreed(*expected)


def test_a_client_takes_an_answer_among_empty_elements() -> None:
    assert taken(f", {PLAIN} ,") == taken(PLAIN)


@pytest.mark.parametrize("said", ["", " ", ","])
def test_an_answer_of_nothing_is_none(said: str) -> None:
    assert taken(said) is None
    assert check_answer(None, extensions(said)) is None


def test_no_answer_is_none() -> None:
    assert taken() is None
    assert check_answer(None, Headers()) is None


@pytest.mark.parametrize("bits", BITS)
def test_a_client_keeps_to_its_own_window_where_the_server_asks_for_no_smaller(bits: int) -> None:
    for asked in BITS:
        found = taken(f"{PLAIN}; client_max_window_bits={asked}", client_max_window_bits=bits)
        assert found is not None
        assert found.client_bits == min(bits, asked)
    found = taken(PLAIN, client_max_window_bits=bits)
    assert found is not None
    assert found.client_bits == bits


def test_a_client_keeps_to_its_word_about_takeover() -> None:
    found = taken(PLAIN, client_no_context_takeover=True)
    assert found is not None
    assert not found.client_takeover


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("", {"server_no_context_takeover": True}),
        ("; client_no_context_takeover", {"server_no_context_takeover": True}),
        ("", {"server_max_window_bits": 10}),
        ("; server_max_window_bits=11", {"server_max_window_bits": 10}),
    ],
)
def test_a_server_that_does_not_do_as_asked_is_refused(said: str, options: dict[str, Any]) -> None:
    with pytest.raises(NegotiationError):
        taken(PLAIN + said, **options)


@pytest.mark.parametrize(
    "said",
    [
        "server_max_window_bits",
        "client_max_window_bits",  # the value may be left out in an offer only
        "client_max_window_bits=",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "client_max_window_bits=010",
        "server_no_context_takeover=1",
        "client_no_context_takeover; client_no_context_takeover",
        "unknown",
        "",
    ],
)
def test_an_answer_that_cannot_be_one_is_refused(said: str) -> None:
    with pytest.raises(NegotiationError):
        taken(f"{PLAIN}; {said}")


@pytest.mark.parametrize(
    "lines",
    [
        ("permessage-bzip2",),
        ("foo", PLAIN),
        (f"{PLAIN}, foo",),
        (f"{PLAIN}, {PLAIN}",),
        (PLAIN, PLAIN),
        ("Permessage-Deflate2",),
    ],
)
def test_a_choice_that_was_not_offered_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(NegotiationError, match="was not offered"):
        taken(*lines)


# --- On the wire ----------------------------------------------------------------------------------


def said_by_the_server(
    runner: Runner, *lines: str, expected_status: int = 101, **options: Any
) -> list[str]:
    """Return the values of the header in a listener's response to a request with these."""
    peer = dial(runner, runner.context().listen(host="127.0.0.1", **options))
    headers = "".join(f"{HEADER}: {line}\r\n" for line in lines)
    peer.send(upgrade_request(headers=headers))
    runner.run(peer.has_head)
    return values_in(peer.take_head(), f"HTTP/1.1 {expected_status} ".encode())


def values_in(head: bytes, begin: bytes) -> list[str]:
    assert head.startswith(begin), head
    return re.findall(rf"(?im)^{HEADER}: *(.*?)\r$", head.decode())


@compresses
def test_a_server_that_was_not_told_to_answers_nothing(runner: Runner) -> None:
    assert said_by_the_server(runner, PLAIN, on_handshake=lambda headers: True) == []


@compresses
def test_a_server_answers_no_client_that_offers_nothing(runner: Runner) -> None:
    assert said_by_the_server(runner, compression="deflate") == []


@compresses
@pytest.mark.parametrize("compression", ["deflate", uvws.Deflate()])
def test_a_server_answers_an_offer(runner: Runner, compression: Any) -> None:
    assert said_by_the_server(runner, PLAIN, compression=compression) == [PLAIN]


@compresses
def test_a_server_answers_next_to_its_other_headers(runner: Runner) -> None:
    options = {
        "headers": {"X-One": "1"},
        "on_handshake": lambda headers: {"X-Two": "2"},
        "protocol": "chat",
    }
    assert said_by_the_server(runner, PLAIN, compression="deflate", **options) == [PLAIN]


@compresses
def test_a_refusal_negotiates_nothing(runner: Runner) -> None:
    said = said_by_the_server(
        runner,
        PLAIN,
        compression="deflate",
        on_handshake=lambda headers: False,
        expected_status=403,
    )
    assert said == []


@compresses
def test_a_server_reads_every_header_line(runner: Runner) -> None:
    lines = ("foo; a=1", f"{PLAIN}; server_max_window_bits=8", f"bar, {PLAIN}; unknown", PLAIN)
    assert said_by_the_server(runner, *lines, compression="deflate") == [PLAIN]


@compresses
def test_a_server_lets_in_whom_it_cannot_answer(runner: Runner) -> None:
    assert said_by_the_server(runner, f"{PLAIN}; unknown", compression="deflate") == []


@compresses
def test_a_server_answers_with_its_own_wishes(runner: Runner) -> None:
    compression = uvws.Deflate(server_no_context_takeover=True, client_max_window_bits=10)
    assert said_by_the_server(
        runner, f"{PLAIN}; client_max_window_bits", compression=compression
    ) == [f"{PLAIN}; server_no_context_takeover; client_max_window_bits=10"]


def offered_by_the_client(runner: Runner, **options: Any) -> list[str]:
    server = RawServer(runner)
    runner.context().connect(server.url, **options)
    return values_in(server.accept().take_head(), b"GET ")


@compresses
def test_a_client_that_was_not_told_to_offers_nothing(runner: Runner) -> None:
    assert offered_by_the_client(runner) == []


@compresses
@pytest.mark.parametrize("compression", ["deflate", uvws.Deflate()])
def test_a_client_offers(runner: Runner, compression: Any) -> None:
    offered = offered_by_the_client(runner, compression=compression)
    assert offered == [f"{PLAIN}; client_max_window_bits"]


@compresses
def test_a_client_offers_next_to_its_other_headers(runner: Runner) -> None:
    options = {"headers": {"X-One": "1"}, "protocol": "chat", "compression": "deflate"}
    assert offered_by_the_client(runner, **options) == [f"{PLAIN}; client_max_window_bits"]


def outcome_of(runner: Runner, *answers: str, **options: Any) -> Recorder:
    """Return what a client was told that got these answers."""
    recorder = Recorder()
    server = RawServer(runner)
    runner.context().connect(server.url, **options, **recorder.callbacks)
    server.accept_websocket("".join(f"{HEADER}: {line}\r\n" for line in answers))
    runner.run(lambda: recorder.events)
    return recorder


@compresses
@pytest.mark.parametrize("answers", [(PLAIN,), (), ("",), (f"{PLAIN}; server_max_window_bits=9",)])
def test_a_client_connects_where_the_answer_fits(runner: Runner, answers: tuple[str, ...]) -> None:
    assert outcome_of(runner, *answers, compression="deflate").names == ["connect"]


@compresses
@pytest.mark.parametrize(
    ("answers", "compression", "message"),
    [
        ((PLAIN,), None, f"server chose the extension {PLAIN!r}, which was not offered"),
        (("foo",), None, "server chose the extension 'foo', which was not offered"),
        (("foo",), "deflate", "server chose the extension 'foo', which was not offered"),
        (
            (PLAIN, PLAIN),
            "deflate",
            f"server chose the extension {PLAIN!r}, which was not offered",
        ),
        (
            (f"{PLAIN}; unknown",),
            "deflate",
            f"server answered {PLAIN} with malformed parameters",
        ),
        (
            (f"{PLAIN}; server_max_window_bits=7",),
            "deflate",
            f"server answered {PLAIN} with a window that was not offered",
        ),
        (
            (PLAIN,),
            uvws.Deflate(server_no_context_takeover=True),
            "server did not agree to server_no_context_takeover",
        ),
    ],
)
def test_a_client_fails_where_it_does_not(
    runner: Runner, answers: tuple[str, ...], compression: Any, message: str
) -> None:
    recorder = outcome_of(runner, *answers, compression=compression)
    ((name, error),) = recorder.events
    assert (name, type(error)) == ("error", uvws.HandshakeError)
    assert (str(error), error.status) == (message, 101)
    assert error.headers.get_all(HEADER) == list(answers)


@compresses
def test_a_client_that_failed_leaves_and_says_nothing_more(runner: Runner) -> None:
    recorder = Recorder()
    server = RawServer(runner)
    runner.context().connect(server.url, **recorder.callbacks)
    peer = server.accept_websocket(f"{HEADER}: {PLAIN}\r\n", behind=b"\x81\x02hi")
    runner.run(peer.ended)
    runner.turns(3)
    assert recorder.names == ["error"]
    assert peer.frames() == []


@compresses
@sides
def test_who_asks_alone_gets_a_connection_without(runner: Runner, side: str) -> None:
    asking = {"compression": "deflate"}
    recorder = Recorder()
    server = Recorder(on_message=lambda connection, data: connection.send(data))
    context = runner.context()
    listening = asking if side == "server" else {}
    listener = context.listen(host="127.0.0.1", **listening, **server.callbacks)
    client = context.connect(
        url_of(listener), **({} if side == "server" else asking), **recorder.callbacks
    )
    runner.run(recorder.saw("connect"))
    client.send("plain")
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["plain"]
    assert HEADER not in recorder.events[0][1]


@compresses
def test_the_user_sees_what_was_agreed_on_in_the_headers(runner: Runner) -> None:
    recorder = outcome_of(runner, PLAIN, compression="deflate")
    assert recorder.events[0][1].get_all(HEADER) == [PLAIN]


@compresses
@pytest.mark.parametrize("name", [HEADER, HEADER.lower()])
def test_the_header_itself_is_not_the_users_to_set(runner: Runner, name: str) -> None:
    context = runner.context()
    with pytest.raises(ValueError, match="belongs to the handshake"):
        context.connect("ws://127.0.0.1:1/", headers={name: PLAIN}, **no_callbacks())
    with pytest.raises(ValueError, match="belongs to the handshake"):
        context.listen(host="127.0.0.1", headers={name: PLAIN}, **no_callbacks())
