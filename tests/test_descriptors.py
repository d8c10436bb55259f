"""What happens when the process runs out of descriptors, or may have very many."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import uvws
from support.certificates import ca_of, certificate
from support.helpers import loop_kinds, measures_memory
from support.pairs import Pair
from support.programs import run_program
from support.recorder import Recorder
from support.runners import Runner
from support.wire import upgrade_request

HOST = "127.0.0.1"


class Shortage:
    """No descriptor is left while it lasts."""

    def __init__(self) -> None:
        self._taken: list[int] = []
        self._limits: tuple[int, int] | None = None

    def begin(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, self._limits[1]))
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(os.dup(0))

    def give(self, count: int) -> None:
        """Let others have so many."""
        for _ in range(count):
            os.close(self._taken.pop())

    def end(self) -> None:
        if self._limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        self.give(len(self._taken))


@pytest.fixture
def shortage() -> Iterator[Shortage]:
    """A shortage that a test begins, and that ends with it."""
    lack = Shortage()
    yield lack
    lack.end()


def _refused(call: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011  its errno is looked at
        call()
    return caught.value


@pytest.mark.parametrize("what", ["TCP", "TLS", "Unix"])
def test_listening_is_refused(
    runner: Runner, shortage: Shortage, what: str, tmp_path: Path
) -> None:
    context = runner.context()
    options = certificate().server_options if what == "TLS" else {}
    host = str(tmp_path / "socket") if what == "Unix" else HOST
    shortage.begin()
    error = _refused(lambda: context.listen(host=host, **options))
    shortage.end()
    assert error.errno == errno.EMFILE
    context.listen(host=host, **options)


def test_a_context_cannot_be_made(runner: Runner, shortage: Shortage) -> None:
    shortage.begin()
    error = _refused(lambda: uvws.Context(runner.loop))
    shortage.end()
    runner.turns(2)
    assert error.errno == errno.EMFILE
    Pair(runner)


# uvloop needs a descriptor each time that it starts to run, so all happens while it does.
@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "wss://127.0.0.1:1/", "ws://localhost:1/"])
def test_connecting_fails(runner: Runner, shortage: Shortage, url: str) -> None:
    context = runner.context(ssl_ca=ca_of())
    client = Recorder(on_error=lambda *_: shortage.end())

    def connect() -> None:
        shortage.begin()
        context.connect(url, **client.callbacks)

    if "localhost" in url:  # the thread that looks names up is there by then
        context.connect(url, on_error=lambda *_: runner.call_soon(connect))
    else:
        runner.call_soon(connect)
    runner.run(client.saw("error"))
    assert client.events[0][1].errno == errno.EMFILE
    assert client.names == ["error"]


def test_those_that_are_open_are_served_meanwhile_and_the_next_ones_afterwards(
    runner: Runner, shortage: Shortage
) -> None:
    pair = Pair(runner, server=Recorder(on_message=lambda connection, data: connection.send(data)))
    peers = [socket.socket() for _ in range(3)]

    def begin() -> None:
        shortage.begin()
        for peer in peers:
            peer.connect((HOST, pair.listener.port))
            peer.send(upgrade_request())
        pair.connection("client").send("during")

    runner.call_soon(begin)
    runner.run(lambda: pair.client.messages == ["during"])
    assert pair.server.count("connect") == 1
    runner.call_soon(lambda: shortage.give(2))
    runner.run(pair.server.saw("connect", 3))
    assert pair.server.count("connect") == 3
    # The last one gets what is free when another one ends.
    runner.call_soon(peers[0].close)
    runner.run(pair.server.saw("connect", 4))
    for peer in peers:
        peer.close()


def test_waiting_for_a_descriptor_costs_few_turns(runner: Runner, shortage: Shortage) -> None:
    listener = runner.context().listen(host=HOST)
    peer = socket.socket()
    turns = [0]
    ended: list[None] = []

    def end() -> None:
        shortage.end()
        ended.append(None)

    def begin() -> None:
        shortage.begin()
        peer.connect((HOST, listener.port))
        turns[0] = 0
        runner.call_later(0.5, end)

    def until() -> bool:
        turns[0] += 1
        return bool(ended)

    runner.call_soon(begin)
    runner.run(until)
    # One for each time that it looks again, ten in a second, and some for what is around it.
    assert turns[0] < 40
    peer.close()


@measures_memory
@loop_kinds("asyncio")
def test_a_high_limit_costs_no_memory(runner: Runner) -> None:
    program = """
        import asyncio, resource, sys
        from pathlib import Path
        import uvws

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = hard if sys.argv[1] == "high" else 256
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

        async def main():
            uvws.Context().close()
            before = resident()
            contexts = [uvws.Context() for _ in range(20)]
            print(limit, resident() - before)
            for context in contexts:
                context.close()

        asyncio.run(main())
    """

    def measure(what: str) -> list[int]:
        return [int(word) for word in run_program(program, what).stdout.split()]

    (low, usual), (high, more) = measure("low"), measure("high")
    if high < 16384:
        pytest.skip("the limit cannot be raised far enough to see anything")
    # 16 bytes for each descriptor and context is what it would be.
    assert more - usual < 20 * 16 * (high - low) / 4
