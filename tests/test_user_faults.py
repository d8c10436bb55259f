"""What the user's callbacks do wrong, or do at an odd moment: in each of them, each of these."""

from __future__ import annotations

import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import uvws
from support.helpers import echo, loop_kinds, url_of
from support.programs import run_program
from support.recorder import Recorder
from support.runners import KINDS, Runner
from support.wire import upgrade_request

HOST = "127.0.0.1"
kinds = pytest.mark.parametrize("kind", KINDS)


class Scene:
    """A connection between two contexts, one of whose callbacks does something once.

    Attributes:
        spot: "server on_message" and the like: the callback that does it.
        connection: what the callback was called with; None in on_handshake and on_request.
        context, listener: those of that side; a client has no listener.
        misdeed: what it does.
        done: it was called.
    """

    def __init__(self, runner: Runner, spot: str, misdeed: Callable[[Scene], object]) -> None:
        self.runner = runner
        self.side, _, self.callback = spot.partition(" ")
        self.done = False
        self.misdeed = misdeed
        self.server, self.client = self._recorder("server"), self._recorder("client")
        self.contexts = {"server": runner.context(), "client": runner.context()}
        self.connections: dict[str, Any] = {}
        self.listener: Any = None
        self.sockets: list[socket.socket] = []

    @property
    def context(self) -> Any:
        return self.contexts["client" if self.side == "client" else "server"]

    @property
    def connection(self) -> Any:
        return self.connections.get(self.side)

    def _recorder(self, side: str) -> Recorder:
        def hook(name: str) -> Callable[..., object]:
            def called(connection: Any, *arguments: Any) -> None:
                self.connections[side] = connection
                self._act(side, name)

            return called

        names = ("on_connect", "on_message", "on_close", "on_error", "on_pong", "on_drain")
        return Recorder(**{name: hook(name) for name in names})

    def _act(self, side: str, name: str) -> None:
        mine = "server" if self.side == "adopted" else self.side
        if (side, name) == (mine, self.callback) and not self.done:
            self.done = True
            if self.side == "adopted":
                self.connections["adopted"] = self.connections["server"]
            self.misdeed(self)

    def start(self) -> None:
        """Connect, or send a request."""
        server = self.contexts["server"]
        if self.side == "adopted":
            ours, theirs = socket.socketpair()
            self.sockets.append(theirs)
            theirs.send(upgrade_request())
            server.adopt(ours, **self.server.callbacks)
            return
        self.listener = server.listen(
            host=HOST,
            max_message_size=1000,
            on_handshake=self._on_handshake,
            on_request=self._on_request,
            **self.server.callbacks,
        )
        if self.callback == "on_request":
            sock = socket.create_connection((HOST, self.listener.port))
            self.sockets.append(sock)
            sock.send(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")
            return
        url = url_of(self.listener)
        if (self.side, self.callback) == ("client", "on_error"):
            url = "ws://127.0.0.1:1/"
        self.connections["client"] = self.contexts["client"].connect(url, **self.client.callbacks)

    def _on_handshake(self, _headers: Any) -> bool:
        self._act("server", "on_handshake")
        return True

    def _on_request(self, _request: Any) -> Any:
        self._act("server", "on_request")
        return uvws.Response(200)

    def provoke(self) -> None:
        """Have every callback called that was not yet, the closing ones last."""
        for side, recorder in (("server", self.server), ("client", self.client)):
            connection = self.connections.get(side)
            if not self.done and connection is not None and recorder.count("connect"):
                connection.send(b"message")
                connection.send_ping(b"ping")
        self.runner.turns(20)
        if self.done:
            return
        client = self.connections["client"]
        if self.callback == "on_error":
            client.send(b"x" * 2000)
        elif self.callback == "on_close":
            client.close()


def _raises(error: type[BaseException]) -> Callable[[Scene], object]:
    def misdeed(scene: Scene) -> None:
        raise error("on purpose")

    misdeed.__name__ = f"raising {error.__name__}"
    return misdeed


def closing_the_connection(scene: Scene) -> None:
    if scene.connection is not None:
        scene.connection.close(3000, "enough")


def closing_the_context(scene: Scene) -> None:
    scene.context.close()


def closing_the_listener(scene: Scene) -> None:
    if scene.listener is not None:
        scene.listener.close()


def connecting(scene: Scene) -> None:
    other = Recorder()
    scene.context.connect("ws://127.0.0.1:1/", **other.callbacks)
    scene.connections["extra"] = other


def listening(scene: Scene) -> None:
    other = scene.context.listen(host=HOST, name="another")
    scene.contexts["client"].connect(url_of(other))


def dropping_all_references(scene: Scene) -> None:
    seen = [weakref.ref(each) for each in scene.connections.values()]
    scene.connections.clear()
    scene.server.connections.clear()
    scene.client.connections.clear()
    scene.listener = None
    gc.collect()
    assert seen is not None


def running_the_loop_again(scene: Scene) -> None:
    scene.runner.turns(2)


def forking(scene: Scene) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _in_the_child(scene)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def _in_the_child(scene: Scene) -> int:
    if scene.connection is not None:
        for call in (scene.connection.send, scene.connection.send_ping):
            with pytest.raises(uvws.WrongThread, match="process"):
                call(b"x")
        with pytest.raises(uvws.WrongThread):
            scene.connection.close()
    with pytest.raises(uvws.WrongThread):
        scene.context.connect("ws://127.0.0.1:1/")
    with pytest.raises(uvws.WrongThread):
        scene.context.listen(name="other")
    if scene.listener is not None:
        with pytest.raises(uvws.WrongThread):
            scene.listener.close()
    for context in scene.contexts.values():
        context.close()
    return 0


def calling_from_another_thread(scene: Scene) -> None:
    wrong: list[BaseException] = []

    functions = [scene.context.close]
    if scene.connection is not None:
        functions.append(scene.connection.close)

    def call() -> None:
        for function in functions:
            with pytest.raises(uvws.WrongThread) as caught:
                function()
            wrong.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(wrong) == len(functions)


def sending(scene: Scene) -> None:
    if scene.connection is not None and scene.connection.is_connected:
        scene.connection.send("more")
        scene.connection.send(b"x" * 100_000 if scene.side == "server" else b"x")


def pausing_and_resuming(scene: Scene) -> None:
    if scene.connection is not None:
        scene.connection.pause_recv()
        scene.connection.resume_recv()
        scene.connection.pause_recv()
        scene.runner.call_later(0.01, scene.connection.resume_recv)


BOOM, CTRL_C, EXIT = _raises(ValueError), _raises(KeyboardInterrupt), _raises(SystemExit)
MISDEEDS = (
    BOOM,
    CTRL_C,
    EXIT,
    closing_the_connection,
    closing_the_context,
    closing_the_listener,
    connecting,
    listening,
    dropping_all_references,
    running_the_loop_again,
    forking,
    calling_from_another_thread,
    sending,
    pausing_and_resuming,
)
SPOTS = (
    "server on_handshake",
    "server on_request",
    "server on_connect",
    "server on_message",
    "server on_pong",
    "server on_drain",
    "server on_error",
    "server on_close",
    "client on_connect",
    "client on_message",
    "client on_pong",
    "client on_drain",
    "client on_error",
    "client on_close",
    "adopted on_connect",
)


def _tolerantly(run: Callable[[], object]) -> None:
    """Run the loop, also where what is to end the program comes out of it, as asyncio has it."""
    try:
        run()
    except (KeyboardInterrupt, SystemExit) as error:
        assert error.args == ("on purpose",)  # noqa: PT017  it may come or not
        run()


def _play(scene: Scene, bystander: Recorder) -> None:
    """Go through the life of the connection until it was done, and see who else is served."""
    run = scene.runner.run
    scene.start()
    try:
        for stage in (
            lambda: scene.done or scene.server.events or scene.client.events,
            lambda: scene.done or scene.server.count("connect"),
            lambda: scene.done or scene.client.count("connect"),
        ):
            _tolerantly(lambda stage=stage: run(stage))  # type: ignore[misc]
        if not scene.done:
            _tolerantly(scene.provoke)
        _tolerantly(lambda: run(lambda: scene.done))
        before = len(bystander.messages)
        bystander.connections[0].send("still here")
        _tolerantly(lambda: run(bystander.saw("message", before + 1)))
        for context in scene.contexts.values():
            context.close()
        _tolerantly(lambda: scene.runner.turns(2))
    finally:
        for sock in scene.sockets:
            sock.close()


def _check_ends(scene: Scene) -> None:
    for recorder in (scene.server, scene.client):
        connects = recorder.count("connect")
        assert recorder.count("close") == connects, recorder.names
        may_fail = recorder is scene.server or not connects
        assert recorder.count("error") <= int(may_fail), recorder.names


def _check_reports(scene: Scene) -> None:
    runner, misdeed = scene.runner, scene.misdeed
    reported = [type(each) for each in runner.reported]
    runner.reported.clear()
    if misdeed is BOOM:
        assert reported == [ValueError]
    elif misdeed in (CTRL_C, EXIT) and runner.kind == "pyuv":
        assert reported == [KeyboardInterrupt if misdeed is CTRL_C else SystemExit]
    elif misdeed is running_the_loop_again and runner.kind != "pyuv":
        assert reported == [RuntimeError]  # asyncio does not let itself be run again
    else:
        assert reported == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("spot", SPOTS)
def test_whatever_a_callback_does_harms_nobody_else(runner: Runner, spot: str) -> None:
    bystander = Recorder()
    runner.context().connect(url_of(echo(runner)), **bystander.callbacks)
    runner.run(bystander.saw("connect"))
    for misdeed in MISDEEDS:
        print(misdeed.__name__)  # the last one is what fails
        scene = Scene(runner, spot, misdeed)
        _play(scene, bystander)
        _check_ends(scene)
        _check_reports(scene)


# --- Forks ----------------------------------------------------------------------------------------

_FORK = """
    import gc, os, sys
    import uvws
    from support.helpers import url_of
    from support.recorder import Recorder
    from support.runners import make_runner

    runner = make_runner(sys.argv[1])
    context = uvws.Context(runner.loop)
    served, client = Recorder(), Recorder()
    path = sys.argv[2]
    listener = context.listen(host=path, **served.callbacks)
    connection = context.connect("ws+unix:" + path, **client.callbacks)
    runner.run(lambda: served.events and client.events)

    def in_the_child(what):
        {inside}

    child = os.fork()
    if child == 0:
        in_the_child(sys.argv[3:])
        sys.exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
    connection.send("still here")
    runner.run(served.saw("message"))
    assert os.path.exists(path)
    # A second one: the loop still hears of the listener.
    context.connect("ws+unix:" + path, **client.callbacks)
    runner.run(served.saw("connect", 2))
    context.close()
    runner.finish()
    print("end of program")
"""

_WAYS_TO_END = {
    "ending as any program does": "pass",
    "closing the context": "context.close()",
    "dropping everything": "globals().update(context=0, connection=0, listener=0); gc.collect()",
    "leaving a with block": "exec('with context: sys.exit(0)')",
}


@kinds
@pytest.mark.parametrize("way", _WAYS_TO_END)
def test_a_forked_child_may_end_in_any_way(kind: str, way: str, tmp_path: Path) -> None:
    program = _FORK.format(inside=_WAYS_TO_END[way])
    done = run_program(program, kind, str(tmp_path / "s"), options=("-W", "ignore"))
    assert "end of program" in done.stdout
    assert "Traceback" not in done.stderr


@loop_kinds("pyuv")
def test_no_descriptor_survives_exec(runner: Runner) -> None:
    bystander = Recorder()
    before = {int(each.name) for each in Path("/proc/self/fd").iterdir()}
    runner.context().connect(url_of(echo(runner)), **bystander.callbacks)
    runner.run(bystander.saw("connect"))
    ours, theirs = socket.socketpair()
    runner.context().adopt(ours)
    runner.turns(2)
    opened = {int(each.name) for each in Path("/proc/self/fd").iterdir() if each.exists()}
    inherited = [fd for fd in opened - before if os.get_inheritable(fd)]
    theirs.close()
    assert inherited == []


# --- The end of the interpreter -------------------------------------------------------------------

_LATE = """
    import atexit, sys, threading, time
    import uvws
    from support.helpers import url_of
    from support.recorder import Recorder
    from support.runners import make_runner

    class Sender:
        def __init__(self, connection):
            self.connection = connection

        def __del__(self):
            try:
                self.connection.send("farewell")
                self.connection.close()
            except uvws.Error:
                pass

    runner = make_runner(sys.argv[1])
    context = uvws.Context(runner.loop)
    served, client = Recorder(), Recorder()
    listener = context.listen(host="127.0.0.1", **served.callbacks)
    connection = context.connect(url_of(listener), **client.callbacks)
    runner.run(lambda: served.events and client.events)
    {late}
    print("end of program", flush=True)
"""

_LATE_ACTS = {
    "a finaliser sends": "sender = Sender(connection)",
    "a finaliser sends in a cycle": "sender = Sender(connection); sender.me = sender",
    "atexit sends": "atexit.register(connection.send, 'farewell')",
    "atexit closes the context": "atexit.register(context.close)",
    "atexit runs the loop": "atexit.register(lambda: (connection.send('x'), runner.turns(3)))",
    "a daemon thread calls": (
        "threading.Thread(target=lambda: [uvws.Context.close for _ in iter(int, 1)], "
        "daemon=True).start()"
    ),
    "everything is in a cycle": "context.me = [context, connection, runner]",
}


@kinds
@pytest.mark.parametrize("act", _LATE_ACTS)
def test_the_interpreter_ends_although(kind: str, act: str) -> None:
    program = _LATE.format(late=_LATE_ACTS[act])
    done = run_program(program, kind, options=("-W", "ignore"))
    assert "end of program" in done.stdout
