"""Fixtures: a loop of each kind, and peers from the `websockets` package."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.coroutines import KINDS as COROUTINE_KINDS
from support.coroutines import Coroutines
from support.patches import NEEDS_PATCHES, is_patched
from support.peers import ClientThread, ServerThread
from support.runners import KINDS, Runner, make_runner

_FAILED = pytest.StashKey[bool]()


def open_descriptors() -> dict[int, str]:
    """Return the open file descriptors, and what each of them is."""
    # The one through which the directory is read is gone by the time it is looked at.
    entries = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return {int(entry.name): str(entry.readlink()) for entry in entries}


def pytest_configure() -> None:
    """Let Ctrl-C reach programs under test: the background jobs of a shell ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> Iterator[None]:
    """Have no proxy in the environment, nor what changes how it is read."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
                environment.delenv(name)
        yield


@pytest.fixture(scope="session")
def permanent_descriptors() -> None:
    """Open what a process opens once and keeps, such as the pipe of libuv for signals."""
    for kind in KINDS:
        if kind == "asyncio" or importlib.util.find_spec(kind) is not None:
            running = make_runner(kind)
            running.context()
            running.finish()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the failure of what needs our patches where libwebsockets is the system's."""
    if is_patched():
        return
    expected = pytest.mark.xfail(reason="needs a patch of ours to libwebsockets", strict=False)
    for item in items:
        if getattr(item, "originalname", item.name) in NEEDS_PATCHES:
            item.add_marker(expected)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the many collections of the tests look at the objects of the tests only."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether the test itself failed."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture
def no_leaked_descriptors(
    request: pytest.FixtureRequest, permanent_descriptors: None
) -> Iterator[None]:
    """Fail the test if it leaves a file descriptor open."""
    gc.collect()
    before = open_descriptors()
    yield
    if request.node.stash.get(_FAILED, False):
        return  # the traceback keeps alive whatever the test had
    gc.collect()
    after = open_descriptors()
    new = {fd: what for fd, what in after.items() if before.get(fd) != what}
    if not is_patched():
        # lws as it is leaks the descriptor of its event pipe (csrc/lws-patches/0007).
        new = {fd: what for fd, what in new.items() if "eventfd" not in what}
    if len(after) > len(before) and new:
        pytest.fail(f"file descriptors leaked: {new}")


@pytest.fixture(params=KINDS)
def runner(request: pytest.FixtureRequest, no_leaked_descriptors: None) -> Iterator[Runner]:
    """A loop of each kind, with ways to run it; see support.runners."""
    running = make_runner(request.param)
    yield running
    running.finish()
    reported = running.reported
    if reported:
        pytest.fail(f"reported through the loop: {reported!r}")


@pytest.fixture(params=COROUTINE_KINDS)
def run(request: pytest.FixtureRequest, no_leaked_descriptors: None) -> Iterator[Coroutines]:
    """Run a coroutine on a loop of each kind that can: run(coroutine())."""
    running = Coroutines(request.param)
    yield running
    if running.reported:
        pytest.fail(f"reported through the loop: {running.reported!r}")


@pytest.fixture
def websockets_server(runner: Runner) -> Iterator[Callable[..., str]]:
    """Start a server of the `websockets` package: websockets_server(handler, **options) -> uri.

    The options are those of `websockets.asyncio.server.serve`. What a handler raises, other than
    ConnectionClosed, fails the test.
    """
    servers: list[ServerThread] = []

    def start(handler: Callable[[Any], Awaitable[None]], **options: Any) -> str:
        server = ServerThread(handler, options, runner.wake)
        servers.append(server)
        runner.add_peer(server)
        return server.uri

    yield start
    errors = [error for server in servers for error in server.errors]
    if errors:
        raise errors[0]


@pytest.fixture
def websockets_client(
    runner: Runner,
) -> Callable[[Callable[[], Awaitable[Any]]], ClientThread]:
    """Run a coroutine function in a thread: websockets_client(function) -> ClientThread.

    While the runner runs, `client.done` is the condition to wait for; `client.result()` then
    returns what the coroutine returned, or raises.
    """

    def start(function: Callable[[], Awaitable[Any]]) -> ClientThread:
        client = ClientThread(function, runner.wake)
        runner.add_peer(client)
        return client

    return start
