"""Who is at the other end, and which subprotocol was agreed on: what is known of it, and when."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, url_of
from support.certificates import ca_of, certificate
from support.pairs import SIDES, Pair
from support.wire import RawServer, dial, dial_websocket, upgrade_request

HOST = "127.0.0.1"


# The address


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_it_is_the_ip_address_without_the_port(runner: Runner, side: str, host: str) -> None:
    pair = _pair(runner, host)
    assert pair.connection(side).peer_address == (host if side == "client" else _own(host))


def _own(host: str) -> str:
    """Return the address from which this host connects to one of its own."""
    return "::1" if ":" in host else HOST


def _pair(runner: Runner, listen: str | None, connect: str = "") -> Pair:
    """Connect to a listener on one address, or all, by a certain address."""
    with socket.socket(socket.AF_INET6 if listen and ":" in listen else socket.AF_INET) as sock:
        sock.bind((listen or HOST, 0))
        port = sock.getsockname()[1]
    host = connect or listen or HOST
    url = f"ws://[{host}]:{port}/" if ":" in host else f"ws://{host}:{port}/"
    return Pair(runner, listen={"host": listen, "port": port}, url=url)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_on_a_socket_for_both_families_it_is_of_the_one_that_was_used(
    runner: Runner, side: str, address: str
) -> None:
    assert _pair(runner, None, address).connection(side).peer_address == address


def test_over_tls_it_is_the_same(runner: Runner) -> None:
    pair = Pair(runner, context=runner.context(ssl_ca=ca_of()), listen=certificate().server_options)
    assert [pair.connection(side).peer_address in (HOST, "::1") for side in SIDES] == [True] * 2


def test_a_client_knows_which_address_of_a_name_it_reached(runner: Runner) -> None:
    listener = runner.context().listen(host=HOST)
    recorder = Recorder()
    runner.context().connect(f"ws://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    assert recorder.connection.peer_address == HOST


def test_on_a_unix_socket_a_client_knows_the_path_and_a_server_nothing(
    runner: Runner, tmp_path: Path
) -> None:
    path = f"{tmp_path}/socket"
    pair = Pair(runner, listen={"host": f"unix:{path}"}, url=f"ws+unix:{path}")
    assert pair.connection("client").peer_address == path
    assert pair.connection("server").peer_address is None


@pytest.mark.parametrize("name", ["client", "grün", b"\xff"])
def test_a_unix_client_that_is_bound_has_its_path(
    runner: Runner, tmp_path: Path, name: str | bytes
) -> None:
    recorder = Recorder()
    runner.context().listen(host=f"unix:{tmp_path}/server", **recorder.callbacks)
    own = os.fsencode(tmp_path) + b"/" + os.fsencode(name)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(own)
        sock.connect(f"{tmp_path}/server")
        sock.sendall(upgrade_request())
        runner.run(recorder.saw("connect"))
        assert recorder.connection.peer_address == os.fsdecode(own)


def test_the_longest_path_of_a_unix_socket_is_whole(runner: Runner, tmp_path: Path) -> None:
    path = f"{tmp_path}/" + "x" * (107 - len(f"{tmp_path}/"))
    if len(f"{tmp_path}/") > 100:
        pytest.skip("the directory's name is too long")
    assert len(os.fsencode(path)) == 107
    pair = Pair(runner, listen={"host": f"unix:{path}"}, url=f"ws+unix:{path}")
    assert pair.connection("client").peer_address == path


# When


def test_it_is_known_in_on_connect(runner: Runner) -> None:
    seen: list[Any] = []
    recorders = {
        side: Recorder(on_connect=lambda connection, _: seen.append(connection.peer_address))
        for side in SIDES
    }
    Pair(runner, **recorders)
    assert seen == [HOST, HOST]


def test_before_there_is_a_connection_it_is_none(runner: Runner) -> None:
    server = RawServer(runner)
    connection = runner.context().connect(server.url, protocol="chat")
    assert (connection.peer_address, connection.protocol) == (None, None)


def test_after_a_failed_connect_it_is_none(runner: Runner) -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        recorder = Recorder()
        runner.context().connect(f"ws://{HOST}:{sock.getsockname()[1]}/", **recorder.callbacks)
        runner.run(recorder.saw("error"))
    assert recorder.connection.peer_address is None
    assert recorder.connection.protocol is None


@pytest.mark.parametrize("side", SIDES)
def test_both_stay_known_in_on_close_and_after_it(runner: Runner, side: str) -> None:
    seen: list[Any] = []
    recorders = {
        each: Recorder(
            on_close=lambda connection, *_: seen.append(
                (connection.peer_address, connection.protocol)
            )
        )
        for each in SIDES
    }
    pair = Pair(runner, listen={"protocol": "chat"}, connect={"protocol": "chat"}, **recorders)
    pair.connection(side).close()
    runner.run(lambda: len(seen) == 2)
    assert seen == [(HOST, "chat")] * 2
    for each in SIDES:
        assert pair.connection(each).state == "closed"
        assert (pair.connection(each).peer_address, pair.connection(each).protocol) == seen[0]


@pytest.mark.parametrize("asked_before", [False, True])
def test_after_a_reset_it_is_still_known(runner: Runner, asked_before: bool) -> None:
    recorder = Recorder()
    peer = dial_websocket(runner, runner.context().listen(host=HOST, **recorder.callbacks))
    runner.run(recorder.saw("connect"))
    assert not asked_before or recorder.connection.peer_address
    peer.reset()
    runner.run(recorder.saw("close"))
    assert recorder.connection.peer_address == HOST


def test_on_a_client_it_is_still_known_after_a_reset(runner: Runner) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    connection = runner.context().connect(server.url, **recorder.callbacks)
    peer = server.accept_websocket()
    runner.run(recorder.saw("connect"))
    peer.reset()
    runner.run(recorder.saw("close"))
    assert connection.peer_address == HOST


def test_a_peer_that_resets_in_the_handshake_is_known_in_on_connect(runner: Runner) -> None:
    seen: list[Any] = []
    recorder = Recorder(on_connect=lambda connection, _: seen.append(connection.peer_address))
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    for _ in range(10):
        peer = dial(runner, listener)
        peer.send(upgrade_request())
        peer.reset()
    late = dial(runner, listener)
    late.send(upgrade_request())
    runner.run(lambda: late.has_head() and recorder.count("connect") - recorder.count("close") == 1)
    assert set(seen) == {HOST}


@pytest.mark.parametrize("side", SIDES)
def test_both_stay_known_when_the_context_is_closed(runner: Runner, side: str) -> None:
    seen: list[Any] = []
    recorders = {
        each: Recorder(
            on_close=lambda connection, *_: seen.append(
                (connection.peer_address, connection.protocol)
            )
        )
        for each in SIDES
    }
    context = runner.context()
    pair = Pair(
        runner,
        context=context,
        listen={"protocol": "chat"},
        connect={"protocol": "chat"},
        **recorders,
    )
    context.close()
    assert seen == [(HOST, "chat")] * 2
    assert pair.connection(side).state == "destroyed"
    assert (pair.connection(side).peer_address, pair.connection(side).protocol) == (HOST, "chat")


def test_the_path_of_a_unix_socket_is_known_after_the_end(runner: Runner, tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    pair = Pair(runner, listen={"host": f"unix:{path}"}, url=f"ws+unix:{path}")
    connection = pair.connection("client")
    assert connection.peer_address == path
    pair.connection("server").close()
    runner.run(pair.client.saw("close"))
    assert connection.peer_address == path


# Where not


@pytest.mark.parametrize("name", ["peer_address", "protocol"])
@pytest.mark.parametrize("state", ["connecting", "connected", "closed", "destroyed"])
def test_on_another_thread_it_is_refused_in_every_state(
    runner: Runner, name: str, state: str
) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    connection = pair.connection("client")
    if state == "connecting":
        connection = context.connect(url_of(pair.listener))
    elif state == "closed":
        connection.close()
        runner.run(pair.client.saw("close"))
    elif state == "destroyed":
        context.close()
    assert connection.state == state
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            getattr(connection, name)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert [type(error) for error in raised] == [uvws.WrongThread]


@pytest.mark.parametrize("name", ["peer_address", "protocol"])
def test_it_cannot_be_set(runner: Runner, name: str) -> None:
    connection = Pair(runner).connection("client")
    with pytest.raises(AttributeError):
        setattr(connection, name, "other")
