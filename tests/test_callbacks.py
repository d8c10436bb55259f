"""Callbacks: their order, their number, and what happens when one of them raises."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

import uvws
from support import KINDS, Recorder, Runner, echo, loop_kinds, run_program, url_of

CALLBACKS = ("connect", "message", "close", "drain")


class BoomError(Exception):
    """What the callbacks of these tests raise."""


class Grave(BaseException):
    """No Exception."""


def _raiser(error: BaseException) -> Any:
    def on_anything(*_arguments: object) -> None:
        raise error

    return on_anything


def _play(runner: Runner, client_hooks: dict[str, Any], server_hooks: dict[str, Any]) -> Any:
    """Exchange a message and close; returns the recorders of the client and of the server."""
    client, server = Recorder(**client_hooks), Recorder(**server_hooks)
    listener = runner.context().listen(host="127.0.0.1", **server.callbacks)
    connection = runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(lambda: client.count("connect") and server.count("connect"))
    connection.send("ping")
    server.connections[0].send("pong")
    runner.run(lambda: client.count("message") and server.count("message"))
    runner.run(lambda: client.count("drain") and server.count("drain"))
    connection.close()
    runner.run(lambda: client.count("close") and server.count("close"))
    return client, server


# --- Order and number -----------------------------------------------------------------------------


def test_a_connection_is_heard_of_in_order(runner: Runner) -> None:
    client, server = _play(runner, {}, {})
    for recorder in (client, server):
        names = [name for name in recorder.names if name != "drain"]
        assert names == ["connect", "message", "close"]
        assert recorder.names.count("drain") == 1


def test_every_callback_gets_the_connection_that_connect_returned(runner: Runner) -> None:
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    connection = runner.context().connect(url_of(echo(runner)), **recorder.callbacks)
    runner.run(recorder.saw("message"))
    connection.close()
    runner.run(recorder.saw("close"))
    assert {id(each) for each in recorder.connections} == {id(connection)}


def test_the_connections_of_a_listener_are_told_apart(runner: Runner) -> None:
    server = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **server.callbacks)
    context = runner.context()
    for number in range(5):
        context.connect(
            url_of(listener),
            on_connect=lambda connection, headers, number=number: connection.send(str(number)),
        )
    runner.run(server.saw("message", 5))
    assert sorted(server.messages) == list("01234")
    assert len({id(connection) for connection in server.connections}) == 5


def test_pongs_are_heard_where_messages_are_not(runner: Runner) -> None:
    pongs: list[bytes] = []
    runner.context().connect(
        url_of(echo(runner)),
        on_connect=lambda connection, headers: connection.send_ping(b"there?"),
        on_pong=lambda connection, payload: pongs.append(payload),
    )
    runner.run(lambda: pongs)
    assert pongs == [b"there?"]


def test_no_callback_is_called_from_within_connect_or_listen(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    listener = context.listen(host="127.0.0.1", **recorder.callbacks)
    context.connect(url_of(listener), **recorder.callbacks)
    context.connect("ws://127.0.0.1:1/", **recorder.callbacks)
    assert recorder.events == []


def test_no_callback_is_called_from_within_send_or_close(runner: Runner) -> None:
    recorder = Recorder()
    connection = runner.context().connect(url_of(echo(runner)), **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    connection.send("x")
    connection.send("x" * 1_000_000)
    connection.close()
    assert recorder.names == ["connect"]


def test_messages_are_delivered_before_the_close_that_follows_them(runner: Runner) -> None:
    server = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **server.callbacks)

    def send_and_close(connection: Any, _headers: object) -> None:
        for number in range(100):
            connection.send(str(number))
        connection.close(4000, "that was all")

    runner.context().connect(url_of(listener), on_connect=send_and_close)
    runner.run(server.saw("close"))
    assert server.messages == [str(number) for number in range(100)]
    assert server.events[-1] == ("close", 4000, "that was all")


def test_no_message_is_delivered_after_close_was_called(runner: Runner) -> None:
    client = Recorder(on_message=lambda connection, data: connection.close())

    def flood(connection: Any, _headers: object) -> None:
        for number in range(100):
            connection.send(str(number))

    listener = runner.context().listen(host="127.0.0.1", on_connect=flood)
    runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(client.saw("close"))
    assert client.messages == ["0"]


def test_nothing_is_called_after_on_close(runner: Runner) -> None:
    client, server = _play(runner, {}, {})
    before = (list(client.events), list(server.events))
    runner.run_for(0.05)
    assert (client.events, server.events) == before


def test_nothing_is_called_after_the_on_error_of_a_failed_connect(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    url = url_of(listener)
    listener.close()
    recorder = Recorder()
    context.connect(url, connect_timeout=0.2, **recorder.callbacks)
    runner.run(recorder.saw("error"))
    runner.run_for(0.3)
    assert recorder.names == ["error"]
    assert isinstance(recorder.events[0][1], ConnectionRefusedError)


def test_messages_are_delivered_without_any_callback_to_take_them(runner: Runner) -> None:
    listener = runner.context().listen(host="127.0.0.1")
    client = Recorder(on_connect=lambda connection, headers: connection.send("to nobody"))
    connection = runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(client.saw("drain"))
    connection.close()
    runner.run(client.saw("close"))
    assert client.events[-1] == ("close", 1000, "")


def test_callbacks_may_return_anything(runner: Runner) -> None:
    client, server = (
        {f"on_{name}": lambda *arguments: object() for name in CALLBACKS} for _ in range(2)
    )
    _play(runner, client, server)


@pytest.mark.parametrize("name", ["on_connect", "on_message", "on_close", "on_error", "on_drain"])
@loop_kinds("asyncio")
def test_a_callback_that_cannot_be_called_is_a_type_error(runner: Runner, name: str) -> None:
    context = runner.context()
    for value in (1, "name", object()):
        with pytest.raises(TypeError, match=name):
            context.listen(host="127.0.0.1", **{name: value})
        with pytest.raises(TypeError, match=name):
            context.connect("ws://127.0.0.1:1/", **{name: value})


def test_a_connection_made_in_a_callback_works(runner: Runner) -> None:
    url = url_of(echo(runner))
    context = runner.context()
    inner = Recorder(on_connect=lambda connection, headers: connection.send("inner"))
    context.connect(
        url, on_connect=lambda connection, headers: context.connect(url, **inner.callbacks)
    )
    runner.run(inner.saw("message"))
    assert inner.messages == ["inner"]


def test_a_listener_made_in_a_callback_works(runner: Runner) -> None:
    context = runner.context()
    inner = Recorder()

    def on_connect(_connection: Any, _headers: object) -> None:
        listener = context.listen(host="127.0.0.1", name="inner")
        context.connect(url_of(listener), **inner.callbacks)

    context.connect(url_of(echo(runner)), on_connect=on_connect)
    runner.run(inner.saw("connect"))


# --- Raising --------------------------------------------------------------------------------------


@pytest.mark.memcheck
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("name", CALLBACKS)
def test_what_a_callback_raises_is_reported_once_and_the_connection_goes_on(
    runner: Runner, name: str, side: str
) -> None:
    boom = BoomError(name)
    hooks: dict[str, dict[str, Any]] = {"client": {}, "server": {}}
    hooks[side][f"on_{name}"] = _raiser(boom)
    client, server = _play(runner, hooks["client"], hooks["server"])
    for recorder in (client, server):
        assert [each for each in recorder.names if each != "drain"] == [
            "connect",
            "message",
            "close",
        ]
        assert recorder.events[-1][:2] == ("close", 1000)
    assert runner.reported == [boom]
    runner.reported.clear()


def test_what_on_error_raises_is_reported_once_and_does_not_recurse(runner: Runner) -> None:
    boom = BoomError("on_error")
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    url = url_of(listener)
    listener.close()
    recorder = Recorder(on_error=_raiser(boom))
    context.connect(url, **recorder.callbacks)
    runner.run(recorder.saw("error"))
    runner.run_for(0.02)
    assert recorder.names == ["error"]
    assert runner.reported == [boom]
    runner.reported.clear()


def test_what_on_error_raises_for_a_message_too_big_does_not_keep_on_close_away(
    runner: Runner,
) -> None:
    boom = BoomError("on_error")
    server = Recorder(on_error=_raiser(boom))
    listener = runner.context().listen(host="127.0.0.1", max_message_size=5, **server.callbacks)
    runner.context().connect(
        url_of(listener), on_connect=lambda connection, headers: connection.send("too long")
    )
    runner.run(server.saw("close"))
    assert server.names == ["connect", "error", "close"]
    assert server.events[-1][:2] == ("close", 1009)
    assert runner.reported == [boom]
    runner.reported.clear()


def test_what_on_error_raises_for_a_name_that_does_not_exist_is_reported(runner: Runner) -> None:
    boom = BoomError("on_error")
    recorder = Recorder(on_error=_raiser(boom))
    runner.context().connect("ws://does-not-exist.invalid/", **recorder.callbacks)
    runner.run(recorder.saw("error"), 20)
    runner.turns(2)
    assert runner.reported == [boom]
    runner.reported.clear()


def test_what_on_close_raises_while_the_context_closes_is_reported(runner: Runner) -> None:
    boom = BoomError("on_close")
    recorder = Recorder(on_close=_raiser(boom))
    context = runner.context()
    for _ in range(3):
        context.connect(url_of(echo(runner)), **recorder.callbacks)
    runner.run(recorder.saw("connect", 3))
    context.close()
    assert recorder.count("close") == 3
    runner.turns(2)
    assert runner.reported == [boom] * 3
    runner.reported.clear()


def test_every_message_of_a_batch_is_delivered_though_each_raises(runner: Runner) -> None:
    raised = []

    def on_message(_connection: Any, data: str) -> None:
        raised.append(BoomError(data))
        raise raised[-1]

    listener = runner.context().listen(host="127.0.0.1", on_message=on_message)

    def flood(connection: Any, _headers: object) -> None:
        for number in range(50):
            connection.send(str(number))

    runner.context().connect(url_of(listener), on_connect=flood)
    runner.run(lambda: len(raised) == 50)
    assert [str(error) for error in raised] == [str(number) for number in range(50)]
    runner.turns(1)
    assert runner.reported == raised
    runner.reported.clear()


def test_the_report_has_the_traceback(runner: Runner) -> None:
    def on_connect(connection: Any, headers: Any) -> None:
        the_line_that_raises = BoomError("with a traceback")
        raise the_line_that_raises

    runner.context().connect(url_of(echo(runner)), on_connect=on_connect)
    runner.run(lambda: runner.reported)
    text = "".join(traceback.format_exception(runner.reported[0]))
    assert "raise the_line_that_raises" in text
    assert __file__ in text
    runner.reported.clear()


@loop_kinds("pyuv", "uvloop", "asyncio")
def test_other_base_exceptions_are_reported_as_well(runner: Runner) -> None:
    grave = Grave("neither Exception nor SystemExit")
    client, server = _play(runner, {"on_message": _raiser(grave)}, {})
    assert client.names[-1] == server.names[-1] == "close"
    assert runner.reported == [grave]
    runner.reported.clear()


def test_messages_go_on_after_a_loop_was_ended_by_system_exit(runner: Runner) -> None:
    """SystemExit and KeyboardInterrupt do what they do in any other callback of the loop."""
    for leave in (SystemExit(3), KeyboardInterrupt()):
        client = Recorder(
            on_connect=lambda connection, headers: connection.send("x"),
            on_message=_raiser(leave),
        )
        connection = runner.context().connect(url_of(echo(runner)), **client.callbacks)
        if runner.kind == "pyuv":
            runner.run(lambda: runner.reported)
            assert runner.reported == [leave]
            runner.reported.clear()
        else:
            with pytest.raises(type(leave)):
                runner.run(lambda: False)
        runner.run(client.saw("message"))
        client._hooks.clear()
        connection.send("y")
        runner.run(client.saw("message", 2))
        assert client.messages == ["x", "y"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_whose_exception_handler_raises_goes_on(kind: str) -> None:
    said = run_program(
        """
        import logging, sys, uvws
        from support import Recorder, url_of
        from support.runners import make_runner

        def broken(*arguments):
            raise RuntimeError("the handler itself")

        def boom(*arguments):
            raise ValueError("the callback")

        logging.basicConfig(level=logging.ERROR)
        runner = make_runner(sys.argv[1])
        if runner.kind == "pyuv":
            runner.loop.excepthook = broken
        else:
            runner.loop.set_exception_handler(broken)
        recorder = Recorder(on_connect=boom)
        with uvws.Context(runner.loop) as context:
            listener = context.listen(
                host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
            )
            connection = context.connect(url_of(listener), **recorder.callbacks)
            runner.run(recorder.saw("connect"))
            connection.send("still there")
            runner.run(recorder.saw("message"))
        """,
        kind,
    )
    assert "the handler itself" in said.stderr
    assert "the callback" in said.stderr


def test_without_an_excepthook_the_default_one_of_pyuv_prints_it() -> None:
    said = run_program(
        """
        import pyuv, uvws
        from support import Recorder, url_of

        def on_connect(connection, headers):
            context.close()
            raise ValueError("the callback")

        loop = pyuv.Loop()
        context = uvws.Context(loop)
        context.connect(url_of(context.listen(host="127.0.0.1")), on_connect=on_connect)
        loop.run()
        """
    )
    assert said.stderr.count("ValueError: the callback") == 1
    assert "Traceback" in said.stderr


def test_an_excepthook_of_none_sends_it_to_logging() -> None:
    said = run_program(
        """
        import logging, pyuv, uvws
        from support import Recorder, url_of

        def on_connect(connection, headers):
            context.close()
            raise ValueError("the callback")

        logging.basicConfig(level=logging.ERROR)
        loop = pyuv.Loop()
        loop.excepthook = None
        context = uvws.Context(loop)
        context.connect(url_of(context.listen(host="127.0.0.1")), on_connect=on_connect)
        loop.run()
        """
    )
    assert said.stderr.count("ValueError: the callback") == 1
    assert "ERROR:uvws" in said.stderr


def test_memory_held_by_a_callback_is_let_go_when_the_connection_ends(runner: Runner) -> None:
    import gc
    import weakref

    class Application:
        """Has a bound method as callback."""

        def on_connect(self, connection: Any, headers: Any) -> None:
            connection.close()

    def live() -> weakref.ref[Any]:
        application = Application()
        recorder = Recorder(on_connect=application.on_connect)
        context.connect(url_of(listener), **recorder.callbacks)
        runner.run(recorder.saw("close"))
        return weakref.ref(application)

    listener, context = echo(runner), runner.context()
    application = live()
    runner.turns(2)
    gc.collect()
    assert application() is None


def test_an_exception_does_not_keep_the_connection_alive_in_uvws(runner: Runner) -> None:
    import gc
    import weakref

    listener, context = echo(runner), runner.context()

    def live() -> weakref.ref[Any]:
        recorder = Recorder(
            on_connect=lambda connection, headers: connection.close(), on_close=_raiser(BoomError())
        )
        connection = context.connect(url_of(listener), **recorder.callbacks)
        runner.run(lambda: runner.reported)
        runner.reported.clear()
        return weakref.ref(connection)

    connection = live()
    runner.turns(2)
    gc.collect()
    assert connection() is None


def test_a_message_can_be_sent_to_every_connection_of_a_context(runner: Runner) -> None:
    context, others = runner.context(), runner.context()
    listener = context.listen(host="127.0.0.1")
    recorders = [Recorder() for _ in range(5)]
    for recorder in recorders:
        others.connect(url_of(listener), **recorder.callbacks)
    runner.run(lambda: len(context.connections) == len(recorders))
    for connection in context.connections:
        connection.send("broadcast!")
    runner.run(lambda: all(recorder.messages for recorder in recorders))
    assert [recorder.messages for recorder in recorders] == [["broadcast!"]] * len(recorders)


def test_the_connections_of_a_context_are_those_that_are_open(runner: Runner) -> None:
    context = runner.context()
    recorder = Recorder()
    assert context.connections == []
    connection = context.connect(url_of(echo(runner)), **recorder.callbacks)
    assert context.connections == []
    runner.run(recorder.saw("connect"))
    assert context.connections == [connection]
    connection.close()
    assert context.connections == [connection]
    assert connection.state == uvws.State.CLOSING
    runner.run(recorder.saw("close"))
    assert context.connections == []
