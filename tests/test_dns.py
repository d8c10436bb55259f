"""Name look-ups: they never block the loop, and they can be given up."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import uvws
from support import Recorder, Runner, loop_kinds, time_limit

SLOW = "takes-a-second.test"
SLOWISH = "takes-a-moment.test"

RESOLVER = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <netdb.h>
    #include <string.h>
    #include <unistd.h>

    int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                    struct addrinfo **found) {
        int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
            dlsym(RTLD_NEXT, "getaddrinfo");
        int second = name && !strcmp(name, "takes-a-second.test");
        int moment = name && !strcmp(name, "takes-a-moment.test");
        if (second || moment) {
            usleep(second ? 1000000 : 300000);
            name = "127.0.0.1";
        }
        return real(name, service, hints, found);
    }
"""

PROGRAM = """
    import sys, time
    sys.path.insert(0, {tests!r})
    import uvws
    from support import Recorder
    from support.runners import make_runner

    runner = make_runner({kind!r})
    {body}
    runner.finish()
    assert not runner.reported, runner.reported
"""


@pytest.fixture(scope="session")
def slow_resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload: looking up SLOW takes a second, and SLOWISH less than half."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("resolver")
    source, library = folder / "resolver.c", folder / "resolver.so"
    source.write_text(textwrap.dedent(RESOLVER))
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
        env=plain,
        check=True,
    )
    return library


def run_with(library: Path, kind: str, body: str) -> None:
    """Run a program with `runner`, whose loop is of that kind, under the slow resolver."""
    program = textwrap.dedent(PROGRAM).format(
        tests=str(Path(__file__).parent), kind=kind, body=textwrap.dedent(body)
    )
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))
    # A thread that looks up may outlive the program, and trips the leak sanitizer as it ends.
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "detect_leaks=0"]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": sanitizer},
        capture_output=True,
        text=True,
        timeout=time_limit(20),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


kinds = pytest.mark.parametrize("kind", ["pyuv", "uvloop", "asyncio"])


@kinds
def test_the_loop_goes_on_while_a_name_is_looked_up(slow_resolver: Path, kind: str) -> None:
    run_with(
        slow_resolver,
        kind,
        f"""
    server = runner.context().listen(host="127.0.0.1")
    recorder = Recorder()
    ticks = []

    def tick():
        ticks.append(time.monotonic())
        runner.call_later(0.02, tick)

    runner.call_later(0, tick)
    begin = time.monotonic()
    runner.context().connect(f"ws://{SLOW}:{{server.port}}/", **recorder.callbacks)
    assert time.monotonic() - begin < 0.5, "connect() waits for the look-up"
    runner.run(recorder.saw("connect"))
    assert time.monotonic() - begin > 0.9, "the look-up was not slow"
    assert len(ticks) > 20, len(ticks)
    longest = max(after - before for before, after in zip(ticks, ticks[1:]))
    assert longest < 0.5, longest
    ticks.append(None)
    runner.call_later = lambda *_: None
""",
    )


@kinds
def test_the_connect_timeout_counts_the_look_up(slow_resolver: Path, kind: str) -> None:
    run_with(
        slow_resolver,
        kind,
        f"""
    recorder = Recorder()
    begin = time.monotonic()
    runner.context().connect("ws://{SLOW}:1/", connect_timeout=0.05, **recorder.callbacks)
    runner.run(recorder.saw("error"))
    assert time.monotonic() - begin < 0.8, time.monotonic() - begin
    assert type(recorder.events[0][1]) is uvws.ConnectTimeout, recorder.events
    runner.run_for(1.1)
    assert recorder.names == ["error"], recorder.events
""",
    )


@kinds
def test_a_context_may_be_closed_during_a_look_up(slow_resolver: Path, kind: str) -> None:
    run_with(
        slow_resolver,
        kind,
        f"""
    recorder = Recorder()
    context = runner.context()
    connection = context.connect("ws://{SLOWISH}:1/", **recorder.callbacks)
    runner.turns(3)
    context.close()
    assert recorder.names == ["error"], recorder.events
    assert isinstance(recorder.events[0][1], uvws.ConnectionClosed), recorder.events
    assert connection.state == "destroyed"
    runner.run_for(0.4)
    assert recorder.names == ["error"], recorder.events
""",
    )


@kinds
def test_closing_a_connection_during_its_look_up_does_nothing(
    slow_resolver: Path, kind: str
) -> None:
    run_with(
        slow_resolver,
        kind,
        f"""
    server = runner.context().listen(host="127.0.0.1")
    recorder = Recorder()
    connection = runner.context().connect(f"ws://{SLOWISH}:{{server.port}}/", **recorder.callbacks)
    connection.close()
    runner.run(recorder.saw("connect"))
""",
    )


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x.no-such-host.invalid"])
def test_an_unknown_name_is_told_by_on_error(runner: Runner, name: str) -> None:
    recorder = Recorder()
    connection = runner.context().connect(f"ws://{name}/", **recorder.callbacks)
    assert recorder.events == []
    runner.run(recorder.saw("error"), timeout=20)
    error = recorder.events[0][1]
    assert isinstance(error, socket.gaierror)
    assert error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN)
    assert recorder.names == ["error"]
    assert connection.state == "closed"


def test_a_timeout_that_the_look_up_beats_is_forgotten(runner: Runner) -> None:
    recorder = Recorder()
    runner.context().connect("ws://no-such-host.invalid/", connect_timeout=20, **recorder.callbacks)
    runner.run(recorder.saw("error"), timeout=20)
    assert not isinstance(recorder.events[0][1], uvws.ConnectTimeout)


def test_an_address_needs_no_look_up(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("looked up")

    listener = runner.context().listen(host="127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    recorder = Recorder()
    runner.context().connect(f"ws://127.0.0.1:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("connect"))


def test_many_names_at_once(runner: Runner) -> None:
    listener = runner.context().listen()
    recorder = Recorder()
    context = runner.context()
    for _ in range(50):
        context.connect(f"ws://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("connect", 50))


@loop_kinds("uvloop", "asyncio")
def test_a_look_up_that_cannot_be_made_is_an_error(runner: Runner) -> None:
    runner.loop.run_until_complete(runner.loop.shutdown_default_executor())
    recorder = Recorder()
    runner.context().connect("ws://localhost:1/", **recorder.callbacks)
    runner.run(recorder.saw("error"))
    assert isinstance(recorder.events[0][1], OSError)


@loop_kinds("uvloop", "asyncio")
def test_a_look_up_that_somebody_cancels_is_an_error(runner: Runner) -> None:
    recorder = Recorder()
    runner.context().connect("ws://localhost:1/", **recorder.callbacks)
    for task in asyncio.all_tasks(runner.loop):
        task.cancel()
    runner.run(recorder.saw("error"))
    assert isinstance(recorder.events[0][1], OSError)
