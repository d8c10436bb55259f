"""`uvws.set_debug` and `UVWS_DEBUG`: what is logged, where it is seen, and what never is."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds, time_limit, url_of
from support.certificates import ca_of, certificate
from support.pairs import Pair
from support.patches import is_patched
from support.wire import RawServer, dial, upgrade_request, upgrade_response
from uvws import logs

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO) uvws(\.lws)?: .+")


@pytest.fixture
def debugging(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Debugging is on; gives what is logged."""
    uvws.set_debug(True)
    yield caplog
    uvws.set_debug(False)


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of uvws's own, without the addresses of objects."""
    return [
        re.sub(r" 0x[0-9a-f]+", "", record.getMessage())
        for record in caplog.records
        if record.name == "uvws"
    ]


def library(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of libwebsockets that are for debugging."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "uvws.lws" and record.levelno <= logging.INFO
    ]


def live(runner: Runner) -> Any:
    """Have two ends connect, talk and part; returns the listener."""
    context = runner.context()
    pair = Pair(runner, context=context)
    pair.connection("client").send("hello")
    runner.run(pair.server.saw("message"))
    pair.connection("client").close(4000)
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    context.close()
    return pair.listener


# What is logged


def test_the_life_of_a_connection_is_told(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    port = live(runner).port
    told = ours(debugging)
    assert told[0].startswith("context: made on ")
    assert told[1:4] == [
        f"listener 'server': listening for ws on port {port}",
        f"connection: connecting by ws to 127.0.0.1 port {port}",
        f"connection: trying 127.0.0.1 port {port}",
    ]
    assert sorted(told[4:6]) == [
        "connection: accepted by listener 'server'",
        "connection: connected",
    ]
    assert told[6:] == ["connection: closed with 4000"] * 2 + ["context: closed"]


def test_both_loggers_are_used_at_levels_for_debugging(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    live(runner)
    used = {(record.name, record.levelno) for record in debugging.records}
    assert ("uvws", logging.DEBUG) in used
    assert library(debugging)
    assert all(level <= logging.INFO for _, level in used)


def test_libwebsockets_tells_of_the_handshake(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    live(runner)
    assert any("Upgrade to ws" in line for line in library(debugging))


def test_lines_of_libwebsockets_have_no_control_characters(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    """What a peer sent may be in them, and is not to look like further lines."""
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(f"ws://127.0.0.1:{server.port}/", **recorder.callbacks)
    runner.run(server.accepted)
    runner.run(server.peers[0].has_head)
    answer = upgrade_response(server.peers[0].take_head())
    server.peers[0].send(answer.replace(b"Connection: Upgrade", b"Connection: \x1b[2J"))
    runner.run(recorder.saw("error"))
    assert "[2J" in debugging.text or not is_patched()
    assert [line for line in library(debugging) if not line.isprintable()] == []


def test_a_connection_has_the_name_in_the_lines_that_it_has_in_its_repr(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    pair = Pair(runner)
    for side in ("server", "client"):
        address = re.search(r"0x[0-9a-f]+", repr(pair.connection(side)))
        assert address is not None
        assert f"connection {address[0]}: " in debugging.text


def test_a_failure_is_told_with_every_address_that_was_tried(
    runner: Runner, debugging: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    context = runner.context()
    addresses = [("127.0.0.1", 1), ("127.0.0.2", 1)]
    resolve = "uvws.loops.asyncio_loop.AsyncioAdapter.resolve"
    if runner.kind == "pyuv":
        resolve = "uvws.loops.pyuv_loop.PyuvAdapter.resolve"

    def resolved(_self: Any, _host: str, _port: int, answer: Any) -> Any:
        runner.call_soon(lambda: answer(addresses))
        return lambda: None

    monkeypatch.setattr(resolve, resolved)
    context.connect("ws://somewhere.test:1/", **recorder.callbacks)
    runner.run(recorder.saw("error"))
    refused = "[Errno 111] Connection refused"
    assert ours(debugging)[1:] == [
        "connection: connecting by ws to somewhere.test port 1",
        "connection: trying 127.0.0.1 port 1",
        f"connection: attempt failed: {refused}",
        "connection: trying 127.0.0.2 port 1",
        f"connection: failed: ConnectionRefusedError: {refused}",
    ]


def test_tls_is_told(runner: Runner, debugging: pytest.LogCaptureFixture) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    told = ours(debugging)
    assert f"listener 'server': listening for wss on port {pair.listener.port}" in told
    assert f"connection: connecting by wss to localhost port {pair.listener.port}" in told


def test_a_unix_socket_is_told(
    runner: Runner, debugging: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    path = f"{tmp_path}/socket"
    recorder = Recorder()
    context = runner.context()
    context.listen(host=path)
    context.connect(f"ws+unix:{path}:/", **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    assert f"listener 'server': listening for ws on {path}" in ours(debugging)
    assert f"connection: connecting by ws to {path}" in ours(debugging)


def test_an_adopted_socket_is_told(runner: Runner, debugging: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    ours_end, theirs = socket.socketpair()
    with theirs:
        runner.context().adopt(ours_end, initial_data=upgrade_request(), **recorder.callbacks)
        runner.run(recorder.saw("connect"))
    told = [line for line in ours(debugging) if line.startswith("connection: ")]
    assert told == ["connection: adopting a socket", "connection: adopted, connected"]


def test_the_end_of_a_listener_and_of_a_context_is_told(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    pair.listener.close()
    context.close()
    assert ours(debugging)[-4:] == [
        "listener 'server': closed",
        *["connection: closed with its context"] * 2,
        "context: closed",
    ]


def test_a_message_over_the_limit_is_told(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    pair = Pair(runner, listen={"max_message_size": 5})
    pair.connection("client").send("too long")
    runner.run(pair.server.saw("close"))
    assert "connection: message over the limit of 5 bytes" in ours(debugging)


def test_nothing_secret_is_told(runner: Runner, debugging: pytest.LogCaptureFixture) -> None:
    secret = "open sesame"
    token = secret.replace(" ", "-")
    pair = Pair(
        runner,
        connect={"headers": {"Authorization": f"Basic {secret}", "Cookie": f"session={token}"}},
        url=None,
    )
    pair.connection("client").send(secret)
    pair.connection("server").send(secret.encode())
    runner.run(lambda: pair.server.messages and pair.client.messages)
    pair.connection("server").close(4000, secret)
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    recorder = Recorder()
    url = f"{url_of(pair.listener)}{token}?token={token}"
    runner.context().connect(url, **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    assert ours(debugging)
    assert "sesame" not in debugging.text


def test_a_refusal_is_told_without_what_the_server_wrote(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(f"ws://127.0.0.1:{server.port}/", **recorder.callbacks)
    runner.run(server.accepted)
    server.peers[0].send(
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: sesame\r\nContent-Length: 6\r\n\r\nsesame"
    )
    runner.run(recorder.saw("error"))
    assert any("HandshakeError" in line for line in ours(debugging))
    assert "sesame" not in debugging.text.lower()


def test_what_a_listener_refuses_and_answers_is_told(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    listener = runner.context().listen(
        host="127.0.0.1",
        on_handshake=lambda headers: uvws.Reject(401, {"WWW-Authenticate": "Sesame"}, "sesame"),
        on_request=lambda request: uvws.Response(404, {}, "sesame"),
    )
    recorder = Recorder()
    runner.context().connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("error"))
    peer = dial(runner, listener)
    peer.send(b"GET /sesame HTTP/1.1\r\nHost: localhost\r\n\r\n")
    runner.run(peer.has_head)
    assert "listener 'server': handshake refused with 401" in ours(debugging)
    assert "listener 'server': request answered with 404" in ours(debugging)
    assert "sesame" not in "".join(ours(debugging)).lower()


def test_a_proxy_is_told_without_its_password(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    context = runner.context(proxy="http://ali:sesame@127.0.0.1:1")
    context.connect("ws://somewhere.test/", **recorder.callbacks)
    runner.run(recorder.saw("error"))
    where = "somewhere.test port 80 through the proxy 127.0.0.1 port 1"
    assert f"connection: connecting by ws to {where}" in ours(debugging)
    assert "sesame" not in debugging.text


# On and off


def test_without_debugging_nothing_is_told(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    uvws.set_debug(False)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "uvws")
    live(runner)
    assert ours(caplog) == []
    assert library(caplog) == []


def test_without_debugging_no_line_is_put_together(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    uvws.set_debug(False)
    monkeypatch.setattr(logs, "log", None)
    live(runner)


def test_debugging_may_be_turned_on_and_off_while_contexts_live(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(runner)
    for _ in range(2):
        uvws.set_debug(True)
        live(runner)
        assert ours(caplog)
        assert library(caplog)
        uvws.set_debug(False)
        caplog.clear()
        pair.connection("client").send("hello")
        live(runner)
        assert ours(caplog) == []
        assert library(caplog) == []


def test_the_level_of_the_logger_is_given_back() -> None:
    uvws.set_debug(True)
    assert logging.getLogger("uvws").level == logging.DEBUG
    uvws.set_debug(False)
    assert logging.getLogger("uvws").level == logging.NOTSET


@loop_kinds("asyncio")
def test_a_level_of_the_applications_own_is_respected(
    runner: Runner, debugging: pytest.LogCaptureFixture
) -> None:
    uvws.set_debug(False)
    logger = logging.getLogger("uvws")
    logger.setLevel(logging.INFO)
    try:
        uvws.set_debug(True)
        runner.context()
        assert ours(debugging) == []
        uvws.set_debug(False)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)


def test_no_handler_is_left_behind() -> None:
    before = list(logging.getLogger("uvws").handlers)
    for _ in range(3):
        uvws.set_debug(True)
    assert len(logging.getLogger("uvws").handlers) == len(before) + 1
    uvws.set_debug(False)
    assert logging.getLogger("uvws").handlers == before


# Where it is seen

PROGRAM = """
    import asyncio, logging, sys, threading
    import uvws

    async def talk():
        closed = asyncio.Event()
        with uvws.Context() as context:
            listener = context.listen(host="127.0.0.1")
            context.connect(
                f"ws://127.0.0.1:{listener.port}/",
                on_connect=lambda connection, headers: connection.close(4000),
                on_close=lambda connection, code, reason: closed.set(),
            )
            await closed.wait()
"""


def stderr_of(body: str, **environment: str) -> list[str]:
    """Run a program in which `talk` has a connection come and go; returns what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name != "UVWS_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM) + textwrap.dedent(body)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=time_limit(20),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def count(lines: list[str], part: str) -> int:
    return sum(part in line for line in lines)


def assert_all_there(lines: list[str], times: int = 1) -> None:
    """Each line looks as it should, and each event is told so often: both ends are in there."""
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    for part in ("context 0x", "listening for", ": connected"):
        assert count(lines, part) == times * (2 if part == "context 0x" else 1)
    assert times <= count(lines, "closed with 4000") <= 2 * times
    assert count(lines, "uvws.lws: ") > 0


def test_without_logging_configured_it_is_seen_on_stderr() -> None:
    assert_all_there(stderr_of("uvws.set_debug(True); asyncio.run(talk())"))


def test_asking_twice_does_not_double_it() -> None:
    assert_all_there(stderr_of("uvws.set_debug(); uvws.set_debug(); asyncio.run(talk())"))


def test_it_is_seen_on_stderr_as_long_as_wanted() -> None:
    body = "uvws.set_debug(True); uvws.set_debug(False); asyncio.run(talk())"
    assert stderr_of(body) == []


@pytest.mark.parametrize(
    "order",
    ["{configure}; uvws.set_debug(True)", "uvws.set_debug(True); {configure}"],
    ids=["before", "after"],
)
@pytest.mark.parametrize("logger", ["", "uvws"])
def test_logging_that_the_application_configured_has_each_line_once(
    order: str, logger: str
) -> None:
    configure = (
        "handler = logging.StreamHandler();"
        "handler.setFormatter(logging.Formatter('APP %(name)s %(message)s'));"
        f"logging.getLogger({logger!r}).addHandler(handler)"
    )
    lines = stderr_of(order.format(configure=configure) + "; asyncio.run(talk())")
    assert all(line.startswith("APP uvws") for line in lines)
    assert count(lines, "listening for") == 1
    assert count(lines, "APP uvws.lws ") > 0


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_environment_turns_it_on(value: str) -> None:
    assert_all_there(stderr_of("asyncio.run(talk())", UVWS_DEBUG=value))


@pytest.mark.parametrize("value", ["0", ""])
def test_the_environment_may_leave_it_off(value: str) -> None:
    assert stderr_of("asyncio.run(talk())", UVWS_DEBUG=value) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_program_overrules_the_environment(when: str) -> None:
    body = "uvws.set_debug(False); asyncio.run(talk())"
    if when == "after":
        body = "asyncio.run(talk()); print('off', file=sys.stderr);" + body
    lines = stderr_of(body, UVWS_DEBUG="1")
    rest = lines[lines.index("off") + 1 :] if when == "after" else lines
    assert rest == []


def test_passwords_of_proxies_in_the_environment_are_not_told() -> None:
    proxy = "ali:sesame@127.0.0.1:1"
    variables = {"socks_proxy": proxy, "http_proxy": f"http://{proxy}", "no_proxy": "127.0.0.1"}
    assert count(stderr_of("asyncio.run(talk())", UVWS_DEBUG="1", **variables), "sesame") == 0


def test_nothing_is_set_up_by_the_import() -> None:
    body = (
        "assert logging.getLogger('uvws').handlers == logging.getLogger('uvws.lws').handlers == []"
    )
    assert stderr_of(body, UVWS_DEBUG="1") == []


def test_the_lines_of_several_threads_stay_whole() -> None:
    body = """
        threads = [threading.Thread(target=asyncio.run, args=(talk(),)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    assert_all_there(stderr_of(body, UVWS_DEBUG="1"), times=5)


def test_threads_may_turn_it_on_and_off_while_others_talk() -> None:
    body = """
        stop = threading.Event()
        def toggle():
            while not stop.is_set():
                uvws.set_debug(True)
                uvws.set_debug(False)
        threads = [threading.Thread(target=toggle) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            asyncio.run(talk())
        stop.set()
        for thread in threads:
            thread.join()
        assert logging.getLogger("uvws").handlers == []
        assert logging.getLogger("uvws").level == logging.NOTSET
    """
    assert [line for line in stderr_of(body) if not LINE.fullmatch(line)] == []


def test_a_process_without_stderr_is_no_worse_off() -> None:
    assert stderr_of("sys.stderr = None; uvws.set_debug(True); asyncio.run(talk())") == []
