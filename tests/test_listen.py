"""Listeners: where they listen, what they refuse, and what becomes of them."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds, url_of
from support.pairs import Pair
from support.wire import dial, upgrade_request

HOST = "127.0.0.1"


def can_connect(runner: Runner, url: str) -> bool:
    """Tell whether a new connection comes about."""
    recorder = Recorder()
    runner.context().connect(url, **recorder.callbacks)
    runner.run(lambda: recorder.events)
    return recorder.names == ["connect"]


# Where


def test_port_0_is_a_free_port(runner: Runner) -> None:
    context = runner.context()
    listeners = [context.listen(host=HOST, name=f"number {n}") for n in range(3)]
    ports = {listener.port for listener in listeners}
    assert len(ports) == 3
    assert all(1024 <= port < 65536 for port in ports)
    assert all(can_connect(runner, url_of(listener)) for listener in listeners)


def test_a_port_of_ones_choice(runner: Runner) -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    assert runner.context().listen(port, host=HOST).port == port
    assert can_connect(runner, f"ws://{HOST}:{port}/")


def test_without_a_host_it_listens_on_both_families(runner: Runner) -> None:
    listener = runner.context().listen()
    assert can_connect(runner, f"ws://127.0.0.1:{listener.port}/")
    assert can_connect(runner, f"ws://[::1]:{listener.port}/")


def test_one_address_is_not_the_other(runner: Runner) -> None:
    listener = runner.context().listen(host="::1")
    assert can_connect(runner, f"ws://[::1]:{listener.port}/")
    assert not can_connect(runner, f"ws://127.0.0.1:{listener.port}/")


def test_a_host_may_be_a_name(runner: Runner) -> None:
    listener = runner.context().listen(host="localhost")
    assert can_connect(runner, f"ws://localhost:{listener.port}/")


def test_several_listeners_have_callbacks_of_their_own(runner: Runner) -> None:
    context = runner.context()
    one, two = Recorder(), Recorder()
    first = context.listen(host=HOST, name="one", **one.callbacks)
    second = context.listen(host=HOST, name="two", **two.callbacks)
    runner.context().connect(url_of(second))
    runner.run(two.saw("connect"))
    runner.context().connect(url_of(first))
    runner.run(one.saw("connect"))
    assert (one.names, two.names) == (["connect"], ["connect"])


# Refusals by the system


def test_a_port_in_use_is_refused_at_once(runner: Runner) -> None:
    taken = runner.context().listen(host=HOST)
    context = runner.context()
    with pytest.raises(OSError, match=rf"{HOST} port {taken.port}$") as raised:
        context.listen(taken.port, host=HOST)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_name_is_free_again_after_a_refusal(runner: Runner) -> None:
    taken = runner.context().listen(host=HOST)
    context = runner.context()
    with pytest.raises(OSError, match="in use"):
        context.listen(taken.port, host=HOST, name="again")
    assert can_connect(runner, url_of(context.listen(host=HOST, name="again")))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused(runner: Runner, host: str) -> None:
    with pytest.raises(OSError, match=host) as raised:
        runner.context().listen(host=host)
    assert raised.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("host", ["no-such-host.invalid", "256.1.1.1", "127.0.0.1:80"])
def test_a_host_that_cannot_be_looked_up_is_refused(runner: Runner, host: str) -> None:
    with pytest.raises(socket.gaierror):
        runner.context().listen(host=host)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen on any port")
def test_a_privileged_port_is_refused(runner: Runner) -> None:
    with pytest.raises(PermissionError):
        runner.context().listen(1, host=HOST)


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"port": "80"}, TypeError, "port"),
        ({"port": None}, TypeError, "port"),
        ({"port": True}, TypeError, "port"),
        ({"port": -1}, ValueError, "port"),
        ({"port": 65536}, ValueError, "port"),
        ({"host": 5}, TypeError, "host"),
        ({"host": b"127.0.0.1"}, TypeError, "host"),
        ({"host": ""}, ValueError, "host"),
        ({"name": None}, TypeError, "name"),
        ({"name": ""}, ValueError, "name"),
        ({"name": "default"}, ValueError, "name"),
        ({"max_message_size": 1.5}, TypeError, "max_message_size"),
        ({"max_message_size": -1}, ValueError, "max_message_size"),
        ({"on_connect": 5}, TypeError, "on_connect"),
        ({"on_message": 5}, TypeError, "on_message"),
        ({"on_close": 5}, TypeError, "on_close"),
        ({"on_error": 5}, TypeError, "on_error"),
        ({"on_drain": 5}, TypeError, "on_drain"),
        ({"ssl_cert": "cert.pem"}, ValueError, "ssl_key"),
        ({"ssl_key": "key.pem"}, ValueError, "ssl_cert"),
        ({"ssl_ca": b"PEM"}, ValueError, "ssl_cert"),
        ({"ssl_cert": 5, "ssl_key": 5}, TypeError, "ssl_cert"),
        ({"no_such_thing": 5}, TypeError, "no_such_thing"),
    ],
)
def test_a_bad_argument_is_named(
    runner: Runner, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=rf"\b{named}\b"):
        runner.context().listen(**options)


def test_a_name_serves_one_listener_at_a_time(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host=HOST, name="mine")
    assert listener.name == "mine"
    with pytest.raises(ValueError, match="'mine' is in use"):
        context.listen(host=HOST, name="mine")
    listener.close()
    assert can_connect(runner, url_of(context.listen(host=HOST, name="mine")))


def test_the_same_name_in_another_context_is_fine(runner: Runner) -> None:
    first = runner.context().listen(host=HOST, name="mine")
    second = runner.context().listen(host=HOST, name="mine")
    assert can_connect(runner, url_of(first))
    assert can_connect(runner, url_of(second))


def test_the_default_name_is_server(runner: Runner) -> None:
    assert runner.context().listen(host=HOST).name == "server"


def test_a_closed_context_does_not_listen(runner: Runner) -> None:
    context = runner.context()
    context.close()
    with pytest.raises(uvws.InvalidState, match=r"^Context is closed$"):
        context.listen()


# Closing a listener


def test_a_closed_listener_refuses_connections_and_frees_its_port(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host=HOST)
    listener.close()
    assert not can_connect(runner, url_of(listener))
    assert context.listen(listener.port, host=HOST).port == listener.port


def test_a_closed_listener_keeps_its_connections(runner: Runner) -> None:
    pair = Pair(runner)
    pair.listener.close()
    runner.turns(3)
    pair.connection("client").send("to the server")
    pair.connection("server").send("to the client")
    runner.run(lambda: pair.server.messages and pair.client.messages)
    assert pair.server.messages == ["to the server"]
    assert pair.client.messages == ["to the client"]
    pair.connection("client").close()
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)


def test_the_port_is_free_while_connections_of_a_closed_listener_live(runner: Runner) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    pair.listener.close()
    again = context.listen(pair.listener.port, host=HOST)
    assert can_connect(runner, url_of(again))
    assert pair.connection("server").is_connected


def test_closing_a_listener_twice_does_nothing(runner: Runner) -> None:
    listener = runner.context().listen(host=HOST)
    listener.close()
    listener.close()
    assert not listener.is_open


def test_closing_a_listener_of_a_closed_context_does_nothing(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host=HOST)
    context.close()
    listener.close()
    assert not listener.is_open


def test_a_listener_may_be_closed_in_its_own_on_connect(runner: Runner) -> None:
    listeners: list[Any] = []
    recorder = Recorder(on_connect=lambda *_: listeners[0].close())
    listeners.append(runner.context().listen(host=HOST, **recorder.callbacks))
    client = Recorder(on_connect=lambda connection, _: connection.send("still here"))
    runner.context().connect(url_of(listeners[0]), **client.callbacks)
    runner.run(recorder.saw("message"))


def test_a_handshake_under_way_when_the_listener_closes_does_no_harm(runner: Runner) -> None:
    listener = runner.context().listen(host=HOST)
    peer = dial(runner, listener)
    peer.send(upgrade_request()[:40])
    runner.turns(5)
    listener.close()
    peer.send(upgrade_request()[40:])
    runner.run(lambda: peer.has_head() or peer.is_ended)


def test_many_listeners_may_come_and_go(runner: Runner) -> None:
    context = runner.context()
    for _ in range(50):
        listener = context.listen(host=HOST)
        pending = context.connect(url_of(listener))
        runner.run(lambda pending=pending: pending.is_connected)
        listener.close()
    runner.turns(3)
    assert len(context.connections) == 100


# Unix sockets


@pytest.mark.parametrize("prefix", ["", "unix:"])
def test_a_unix_socket_is_there_until_the_listener_closes(
    runner: Runner, tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "socket"
    listener = runner.context().listen(host=f"{prefix}{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert listener.port == 0
    assert can_connect(runner, f"ws+unix:{path}")
    listener.close()
    assert not path.exists()


def test_closing_the_context_removes_the_unix_socket(runner: Runner, tmp_path: Path) -> None:
    context = runner.context()
    context.listen(host=f"{tmp_path}/socket")
    context.close()
    assert list(tmp_path.iterdir()) == []


def test_a_unix_socket_that_was_left_behind_is_replaced(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
    runner.context().listen(host=str(path))
    assert can_connect(runner, f"ws+unix:{path}")


def test_a_unix_socket_that_somebody_listens_on_is_refused(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    runner.context().listen(host=str(path))
    with pytest.raises(OSError, match=str(path)) as raised:
        runner.context().listen(host=str(path))
    assert raised.value.errno == errno.EADDRINUSE
    assert can_connect(runner, f"ws+unix:{path}")


def test_a_file_in_the_way_of_a_unix_socket_is_left_alone(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match=str(path)) as raised:
        runner.context().listen(host=str(path))
    assert raised.value.errno == errno.EADDRINUSE
    assert path.read_text() == "data"


def test_a_unix_socket_in_no_directory_is_refused(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        runner.context().listen(host=f"{tmp_path}/missing/socket")


def test_the_longest_path_is_taken(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runner.context().listen(host=f"unix:{'x' * 107}").is_open


@pytest.mark.parametrize("path", ["x" * 108, "ü" * 54])
def test_a_path_that_is_too_long_is_refused(runner: Runner, path: str) -> None:
    with pytest.raises(ValueError, match=r"^host has a Unix path of 108 bytes; at most 107 "):
        runner.context().listen(host=f"unix:{path}")


def test_a_unix_socket_needs_a_path(runner: Runner) -> None:
    with pytest.raises(ValueError, match=r"^host must have a path after 'unix:'$"):
        runner.context().listen(host="unix:")


def test_a_path_that_cannot_be_encoded_is_refused_and_leaves_no_socket(runner: Runner) -> None:
    context = runner.context()
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ValueError, match=r"^host has a Unix path that the system cannot encode$"):
        context.listen(host="/tmp/\ud800")
    assert len(set(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_unix_socket_whose_backlog_is_full_is_in_use(runner: Runner, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as sockets:
        owner = sockets.enter_context(socket.socket(socket.AF_UNIX))
        owner.bind(path)
        owner.listen(0)
        result = 0
        while result == 0:
            client = sockets.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            result = client.connect_ex(path)
        assert result == errno.EAGAIN
        with pytest.raises(OSError, match=path) as raised:
            runner.context().listen(host=path)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_unix_socket_of_somebody_elses_is_not_removed_at_close(
    runner: Runner, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    listener = runner.context().listen(host=str(path))
    path.unlink()
    other = runner.context().listen(host=str(path), name="other")
    listener.close()
    assert other.is_open
    assert can_connect(runner, f"ws+unix:{path}")


# Running out


@loop_kinds("pyuv", "asyncio")  # uvloop itself needs some each time it starts to run
def test_running_out_of_descriptors_costs_no_cpu_and_is_got_over(runner: Runner) -> None:
    served = Recorder()
    listener = runner.context().listen(host=HOST, **served.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    fillers = [os.dup(0) for _ in range(8)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *fillers) + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        before = time.process_time()
        runner.run_for(0.5)
        assert time.process_time() - before < 0.25
        assert served.events == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)
    runner.run(served.saw("connect"))
