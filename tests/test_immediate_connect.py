"""A connect() that succeeds at once, as on Unix sockets, and what fails right behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from support import KINDS, run_program

kinds = pytest.mark.parametrize("kind", KINDS)

# Over TCP it blocks, so that it is done when it returns; a Unix socket is cut off once connected.
CONNECT = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <sys/socket.h>

    int connect(int fd, const struct sockaddr *address, socklen_t size) {
        int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
        int flags = fcntl(fd, F_GETFL);
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        int result = real(fd, address, size);
        fcntl(fd, F_SETFL, flags);
        if (!result && address->sa_family == AF_UNIX)
            shutdown(fd, SHUT_RDWR);
        return result;
    }
"""

PROGRAM = """
    import sys
    import uvws
    from support import Recorder, echo
    from support.runners import make_runner
    from support.wire import RawServer

    runner = make_runner(sys.argv[1])
    recorder = Recorder()
"""


@pytest.fixture
def immediate_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connect() in programs succeed at once or not at all."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = tmp_path / "connect.c", tmp_path / "connect.so"
    source.write_text(textwrap.dedent(CONNECT))
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, env=plain, check=True)
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))
    monkeypatch.setenv("LD_PRELOAD", preload)


def run(body: str, *arguments: str) -> None:
    run_program(
        textwrap.dedent(PROGRAM) + textwrap.dedent(body) + "\nrunner.finish()\n", *arguments
    )


@kinds
def test_a_server_that_goes_away_at_once_is_an_error(
    immediate_connect: None, tmp_path: Path, kind: str
) -> None:
    run(
        """
        path = sys.argv[2]
        server = RawServer(runner, address=path)
        runner.context().connect(f"ws+unix:{path}", **recorder.callbacks)
        runner.run(recorder.saw("error"))
        runner.run_for(0.05)
        assert recorder.names == ["error"], recorder.events
        assert recorder.connection.state == "closed"
        """,
        kind,
        str(tmp_path / "socket"),
    )


@kinds
def test_an_immediate_connect_is_a_connect(immediate_connect: None, kind: str) -> None:
    run(
        """
        url = f"ws://127.0.0.1:{echo(runner).port}/"
        runner.context().connect(url, **recorder.callbacks)
        runner.run(recorder.saw("connect"))
        """,
        kind,
    )


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@kinds
def test_a_proxy_is_never_taken_for_the_server(
    immediate_connect: None, kind: str, scheme: str
) -> None:
    run(
        """
        server = RawServer(runner)
        context = runner.context(proxy=f"127.0.0.1:{server.port}")
        context.connect(f"{sys.argv[2]}://server.example/", **recorder.callbacks)
        runner.run(recorder.saw("error"))
        runner.run(lambda: server.peers and server.peers[0].ended())
        assert recorder.names == ["error"], recorder.events
        assert server.peers[0].take() == b""
        """,
        kind,
        scheme,
    )
