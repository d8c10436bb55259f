"""What every method and property of a connection does in every state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import uvws
from support import Recorder, Runner, time_limit
from support.pairs import SIDES, raw_pair
from support.wire import CLOSE, RawServer, close_payload

MIB = 1 << 20
STATES = ("connecting", "connected", "closing", "closed", "destroyed")
PROTOCOL = "chat"

# Scenes: a connection, brought into a state in one way


class Scene(NamedTuple):
    """A connection and what it was made of."""

    connection: Any
    context: Any
    recorder: Recorder


def connecting(runner: Runner) -> Scene:
    server = RawServer(runner)
    recorder = Recorder()
    context = runner.context()
    connection = context.connect(server.url, protocol=PROTOCOL, **recorder.callbacks)
    server.accept()  # and never answered
    return Scene(connection, context, recorder)


def connected(runner: Runner, side: str) -> Scene:
    return _open(runner, side)[0]


def closing_by_us(runner: Runner, side: str) -> Scene:
    scene, peer = _open(runner, side)
    scene.connection.close()
    runner.run(peer.saw_close)  # which it does not answer
    return scene


def closing_by_the_peer(runner: Runner, side: str) -> Scene:
    scene, peer = _open(runner, side)
    peer.pause()
    scene.connection.send(bytes(16 * MIB))  # our Close frame has to wait for the end of this
    runner.run(lambda: 0 < scene.connection.send_queue_size < 16 * MIB)
    peer.send_frame(CLOSE, close_payload(1000))
    runner.run(lambda: scene.connection.state == "closing")
    return scene


def closed(runner: Runner, side: str) -> Scene:
    scene, peer = _open(runner, side)
    peer.reset()
    runner.run(scene.recorder.saw("close"))
    return scene


def never_connected(runner: Runner) -> Scene:
    server = RawServer(runner)
    recorder = Recorder()
    context = runner.context()
    connection = context.connect(server.url, protocol=PROTOCOL, **recorder.callbacks)
    server.accept().stop()
    runner.run(recorder.saw("error"))
    return Scene(connection, context, recorder)


def destroyed(runner: Runner, side: str) -> Scene:
    return _destroy(connected(runner, side))


def destroyed_while_connecting(runner: Runner) -> Scene:
    return _destroy(connecting(runner))


def destroyed_while_closing(runner: Runner, side: str) -> Scene:
    return _destroy(closing_by_us(runner, side))


def destroyed_when_closed(runner: Runner, side: str) -> Scene:
    return _destroy(closed(runner, side))


def _open(runner: Runner, side: str) -> tuple[Scene, Any]:
    context = runner.context()
    peer, recorder = raw_pair(runner, side, context=context, protocol=PROTOCOL)
    return Scene(recorder.connection, context, recorder), peer


def _destroy(scene: Scene) -> Scene:
    scene.context.close()
    return scene


def both_sides(make: Callable[[Runner, str], Scene]) -> dict[str, Callable[[Runner], Scene]]:
    """Return a scene for the server's end and one for the client's."""
    name = make.__name__.replace("_", " ")
    return {f"{name} ({side})": lambda runner, side=side: make(runner, side) for side in SIDES}


NEVER_OPEN: dict[str, tuple[str, Callable[[Runner], Scene]]] = {
    "connecting": ("connecting", connecting),
    "never connected": ("closed", never_connected),
    "destroyed while connecting": ("destroyed", destroyed_while_connecting),
}
SCENES: dict[str, tuple[str, Callable[[Runner], Scene]]] = {
    **NEVER_OPEN,
    **{
        name: (state, scene)
        for state, make in (
            ("connected", connected),
            ("closing", closing_by_us),
            ("closing", closing_by_the_peer),
            ("closed", closed),
            ("destroyed", destroyed),
            ("destroyed", destroyed_while_closing),
            ("destroyed", destroyed_when_closed),
        )
        for name, scene in both_sides(make).items()
    },
}

# The table: what a call does in each state, an exception being what it raises

NOT_OPEN = uvws.ConnectionClosed("Connection is not open")
DESTROYED = uvws.ConnectionClosed("Connection has been destroyed")
BAD_CODE = "code must be 1000-1003, 1007-1014 or 3000-4999, not"


def by_state(
    connecting: object, connected: object, closing: object, closed: object, destroyed: object
) -> dict[str, object]:
    return dict(zip(STATES, (connecting, connected, closing, closed, destroyed), strict=True))


def always(result: object) -> dict[str, object]:
    return dict.fromkeys(STATES, result)


SENDS = by_state(NOT_OPEN, None, NOT_OPEN, NOT_OPEN, DESTROYED)

TABLE: dict[str, tuple[Callable[[Any], object], dict[str, object]]] = {
    "send('x')": (lambda c: c.send("x"), SENDS),
    "send('')": (lambda c: c.send(""), SENDS),
    "send(b'x')": (lambda c: c.send(b"x"), SENDS),
    "send(bytearray(b'x'))": (lambda c: c.send(bytearray(b"x")), SENDS),
    "send('x' * 100_000)": (lambda c: c.send("x" * 100_000), SENDS),
    "send(bytes(100_000))": (lambda c: c.send(bytes(100_000)), SENDS),
    "send_text('x')": (lambda c: c.send_text("x"), SENDS),
    "send_text('x' * 100_000)": (lambda c: c.send_text("x" * 100_000), SENDS),
    "send_binary(b'x')": (lambda c: c.send_binary(b"x"), SENDS),
    "send_binary(bytes(100_000))": (lambda c: c.send_binary(bytes(100_000)), SENDS),
    "send_fragment('x')": (lambda c: c.send_fragment("x"), SENDS),
    "send_fragment(b'x', final=False)": (lambda c: c.send_fragment(b"x", final=False), SENDS),
    "send_ping()": (lambda c: c.send_ping(), SENDS),
    "send_ping(b'x')": (lambda c: c.send_ping(b"x"), SENDS),
    "send_pong()": (lambda c: c.send_pong(), SENDS),
    "send_pong('x')": (lambda c: c.send_pong("x"), SENDS),
    "close()": (lambda c: c.close(), always(None)),
    "close(4000, 'reason')": (lambda c: c.close(4000, "reason"), always(None)),
    "pause_recv()": (lambda c: c.pause_recv(), always(None)),
    "resume_recv()": (lambda c: c.resume_recv(), always(None)),
    # Wrong arguments come before everything else.
    "send(7)": (
        lambda c: c.send(7),
        always(TypeError("data must be str or bytes-like, not int")),
    ),
    "send_text(b'x')": (
        lambda c: c.send_text(b"x"),
        always(TypeError("data must be str, not bytes")),
    ),
    "send_binary('x')": (
        lambda c: c.send_binary("x"),
        always(TypeError("data must be bytes-like, not str")),
    ),
    "send_fragment(None)": (
        lambda c: c.send_fragment(None),
        always(TypeError("data must be str or bytes-like, not NoneType")),
    ),
    "send_ping(7)": (
        lambda c: c.send_ping(7),
        always(TypeError("payload must be str or bytes-like, not int")),
    ),
    "send_pong(7)": (
        lambda c: c.send_pong(7),
        always(TypeError("payload must be str or bytes-like, not int")),
    ),
    "close(1005)": (lambda c: c.close(1005), always(ValueError(f"{BAD_CODE} 1005"))),
    "close(0)": (lambda c: c.close(0), always(ValueError(f"{BAD_CODE} 0"))),
    "close('1000')": (
        lambda c: c.close("1000"),
        always(TypeError("code must be an int, not str")),
    ),
    "close(1000, b'x')": (
        lambda c: c.close(1000, b"x"),
        always(TypeError("reason must be str, not bytes")),
    ),
    "state": (lambda c: c.state, by_state(*STATES)),
    "is_connected": (lambda c: c.is_connected, by_state(False, True, False, False, False)),
    "is_connecting": (lambda c: c.is_connecting, by_state(True, False, False, False, False)),
    "stash": (lambda c: c.stash, always({})),
    "send_queue_size": (lambda c: c.send_queue_size, always(0)),
    "protocol": (lambda c: c.protocol, by_state(None, *[PROTOCOL] * 4)),
    "peer_address": (lambda c: c.peer_address, by_state(None, *["127.0.0.1"] * 4)),
}
# Where a scene does something else than its state says.
EXCEPTIONS: dict[tuple[str, str], object] = {
    **{(name, call): None for name in NEVER_OPEN for call in ("protocol", "peer_address")},
}
# What is left of the message that was under way.
SIZE_UNKNOWN = {(name, "send_queue_size") for name in SCENES if name.startswith("closing by the p")}

INTERNAL = {"label", "peer_port"}  # properties that are no part of the API

by_scene = pytest.mark.parametrize("name", SCENES)
by_side = pytest.mark.parametrize("side", SIDES)


@by_side
@pytest.mark.parametrize("call", TABLE)
def test_what_each_call_does_when_connected(runner: Runner, side: str, call: str) -> None:
    scene = connected(runner, side)
    assert scene.connection.state == "connected"
    function, expected = TABLE[call]
    outcome = outcome_of(lambda: function(scene.connection))
    assert described(outcome) == described(expected["connected"])


@pytest.mark.parametrize("name", [name for name in SCENES if SCENES[name][0] != "connected"])
def test_what_each_call_does_in_the_other_states(runner: Runner, name: str) -> None:
    state, make = SCENES[name]
    scene = make(runner)
    assert scene.connection.state == state
    wrong = {}
    for call, (function, expected) in TABLE.items():
        outcome = outcome_of(lambda f=function: f(scene.connection))
        wanted = EXCEPTIONS.get((name, call), expected[state])
        if (name, call) in SIZE_UNKNOWN:
            wanted = outcome if isinstance(outcome, int) and outcome > 0 else "more than 0"
        if described(outcome) != described(wanted):
            wrong[call] = outcome
    assert wrong == {}
    assert scene.connection.state == state


def outcome_of(call: Callable[[], object]) -> object:
    """Return what a call returns or raises."""
    try:
        return call()
    except Exception as error:
        return error


def described(outcome: object) -> object:
    """Return something that is equal for exceptions of one type and message."""
    if isinstance(outcome, Exception):
        return type(outcome), str(outcome)
    return outcome


def test_the_table_has_every_property() -> None:
    properties = {name for name, what in vars(uvws.Connection).items() if type(what) is property}
    assert properties - INTERNAL <= set(TABLE)


@by_scene
def test_no_call_does_anything_on_another_thread(runner: Runner, name: str) -> None:
    _, make = SCENES[name]
    scene = make(runner)
    outcomes: dict[str, object] = {}

    def work() -> None:
        for call, (function, expected) in TABLE.items():
            if not isinstance(expected["connected"], Exception):  # which comes first
                outcomes[call] = outcome_of(lambda f=function: f(scene.connection))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(time_limit(5))
    wrong = {
        call: outcome
        for call, outcome in outcomes.items()
        if not isinstance(outcome, uvws.WrongThread)
    }
    assert wrong == {}
    assert outcomes


@pytest.mark.parametrize(
    "name", [name for name in SCENES if SCENES[name][0] in ("closed", "destroyed")]
)
def test_no_call_makes_a_dead_connection_speak(runner: Runner, name: str) -> None:
    state, make = SCENES[name]
    scene = make(runner)
    before = list(scene.recorder.events)
    for function, _ in TABLE.values():
        outcome_of(lambda f=function: f(scene.connection))
    runner.turns(5)
    assert scene.recorder.events == before
    assert scene.connection.state == state


@by_scene
def test_the_stash_stays_the_same(runner: Runner, name: str) -> None:
    _, make = SCENES[name]
    scene = make(runner)
    scene.connection.stash["key"] = "value"
    scene.context.close()
    assert scene.connection.stash == {"key": "value"}


@by_scene
def test_the_representation_names_the_state(runner: Runner, name: str) -> None:
    state, make = SCENES[name]
    scene = make(runner)
    assert repr(scene.connection).startswith(f"<uvws.Connection {state} at 0x")


# States that a message in fragments does not change


@by_side
@pytest.mark.parametrize("call", [call for call in TABLE if TABLE[call][1] is SENDS])
def test_inside_a_fragmented_message_a_dead_connection_is_dead_first(
    runner: Runner, side: str, call: str
) -> None:
    scene = connected(runner, side)
    scene.connection.send_fragment("begin", final=False)
    scene.connection.close()
    outcome = outcome_of(lambda: TABLE[call][0](scene.connection))
    assert described(outcome) == described(NOT_OPEN)
