"""OpenSSL belongs to the whole process: contexts come and go, and nobody else notices."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import ssl
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds, measures_memory, time_limit
from support.certificates import ca_of, certificate, client_context, server_context
from support.programs import run_program

HOST = "127.0.0.1"

# ssl_init


@loop_kinds("asyncio")
@pytest.mark.parametrize("value", [0, 1, "no", b"", 1.0, []], ids=repr)
def test_ssl_init_is_a_bool(runner: Runner, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^ssl_init must be a bool or None, not "):
        runner.context(ssl_init=value)


# Counts what uvws asks of OpenSSL, which makes the same calls to itself.
COUNTER = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdint.h>
    #include <string.h>

    int initialised, cleaned_up;

    static int is_uvws(void *address) {
        Dl_info info;
        return dladdr(address, &info) && strstr(info.dli_fname, "/_core.");
    }

    /* Not RTLD_NEXT: the module loads OpenSSL for itself alone. */
    static void *real(const char *library, const char *older, const char *name) {
        void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
        if (!handle)
            handle = dlopen(older, RTLD_LAZY | RTLD_NOLOAD);
        return dlsym(handle, name);
    }

    int OPENSSL_init_ssl(uint64_t options, const void *settings) {
        int (*init)(uint64_t, const void *) =
            real("libssl.so.3", "libssl.so.1.1", "OPENSSL_init_ssl");
        initialised += is_uvws(__builtin_return_address(0));
        return init(options, settings);
    }

    void OPENSSL_cleanup(void) {
        void (*cleanup)(void) = real("libcrypto.so.3", "libcrypto.so.1.1", "OPENSSL_cleanup");
        cleaned_up += is_uvws(__builtin_return_address(0));
        cleanup();
    }
"""

# Without the module ssl, which asyncio imports if it can: it would initialise OpenSSL.
PROGRAM = """
    import ctypes, sys
    sys.modules["_ssl"] = None
    import pyuv, uvws

    cert, key, ca = sys.argv[1:]
    loop = pyuv.Loop()

    def number(name):
        return ctypes.c_int.in_dll(ctypes.CDLL(None), name).value

    def exchange(context):
        heard = []
        def on_message(connection, data):
            heard.append(data)
            connection.close()
        def answer(connection, data):
            connection.send(data)
            listener.close()
        listener = context.listen(host="127.0.0.1", ssl_cert=cert, ssl_key=key, on_message=answer)
        context.connect(
            f"wss://localhost:{listener.port}/",
            on_connect=lambda connection, headers: connection.send("hello"),
            on_message=on_message,
            on_error=lambda connection, error: sys.exit(repr(error)),
        )
        loop.run()
        assert heard == ["hello"], heard
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The paths of a certificate, of its key and of the authority."""
    contents = {"cert": certificate().cert, "key": certificate().key, "ca": ca_of()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [str(tmp_path / name) for name in contents]


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload that counts the initialisations of OpenSSL."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("counter")
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(textwrap.dedent(COUNTER))
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, env=plain, check=True)
    return library


def program(body: str) -> str:
    return textwrap.dedent(PROGRAM) + textwrap.dedent(body)


@pytest.mark.parametrize(("ssl_init", "calls"), [(None, 1), (True, 1), (False, 0)])
def test_openssl_is_initialised_unless_told_not_to(
    monkeypatch: pytest.MonkeyPatch,
    counter: Path,
    files: list[str],
    ssl_init: bool | None,
    calls: int,
) -> None:
    pytest.importorskip("pyuv")
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(counter)]))
    monkeypatch.setenv("LD_PRELOAD", preload)
    source = f"""
        for n in range(1, 4):
            with uvws.Context(loop, ssl_ca=ca, ssl_init={ssl_init}) as context:
                exchange(context)
            loop.run()
            assert number("initialised") == {calls} * n, number("initialised")
        assert number("cleaned_up") == 0
    """
    run_program(program(source), *files)


@pytest.mark.parametrize("first", [True, False])
def test_tls_works_where_nobody_initialised_openssl(files: list[str], first: bool) -> None:
    """And next to contexts that did, in either order."""
    pytest.importorskip("pyuv")
    source = f"""
        for ssl_init in ({first}, {not first}, {first}):
            with uvws.Context(loop, ssl_ca=ca, ssl_init=ssl_init) as context:
                exchange(context)
    """
    run_program(program(source), *files)


def test_tls_works_next_to_a_library_that_initialised_openssl(runner: Runner) -> None:
    with python_tls() as talk:
        talk("before")
        context = runner.context(ssl_ca=ca_of(), ssl_init=False)
        exchange(runner, context)
        talk("during")
        context.close()
        talk("after")


def test_what_is_refused_is_said_in_openssls_words_all_the_same(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of("second"), ssl_init=False)
    recorder = Recorder()
    listener = context.listen(host=HOST, **certificate().server_options)
    context.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("error"))
    assert isinstance(recorder.events[0][1], uvws.TLSError)
    assert "certificate" in str(recorder.events[0][1])


# Many contexts


@contextlib.contextmanager
def python_tls() -> Iterator[Any]:
    """Have a TLS connection of Python's own.

    Gives a function that sends a text there and back, and does so over a new connection as well.
    """
    trusting = client_context()
    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(time_limit(20))
        server = threading.Thread(target=give_back, args=(listening,))
        server.start()

        def connect() -> ssl.SSLSocket:
            plain = socket.create_connection(listening.getsockname(), time_limit(20))
            return trusting.wrap_socket(plain, server_hostname="localhost")

        def back_and_forth(connection: ssl.SSLSocket, text: str) -> None:
            connection.sendall(text.encode())
            assert connection.recv(1000) == text.encode()

        live = connect()

        def talk(text: str) -> None:
            back_and_forth(live, text)
            with connect() as new:
                back_and_forth(new, text)

        try:
            yield talk
        finally:
            live.close()
            socket.create_connection(listening.getsockname()).close()
            server.join(time_limit(20))


def give_back(listening: socket.socket) -> None:
    """Send back what comes over TLS, each connection in its thread, until one is no TLS."""
    showing = server_context()
    threads = []

    def serve(connection: ssl.SSLSocket) -> None:
        with connection:
            while data := connection.recv(1000):
                connection.sendall(data)

    while True:
        plain, _ = listening.accept()
        try:
            secure = showing.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            break
        threads.append(threading.Thread(target=serve, args=(secure,)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def exchange(runner: Runner, context: Any) -> None:
    """Send a message there and back over TLS."""
    listener = context.listen(
        host=HOST,
        **certificate().server_options,
        on_message=lambda connection, data: connection.send(data),
    )
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("hello"))
    context.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["hello"]


def live(runner: Runner, times: int) -> None:
    """Make and close contexts, a third of them with TLS at work, and of those a half without init.

    The descriptors that are left are counted by the runner's fixture.
    """
    for number in range(times):
        with uvws.Context(runner.loop, ssl_ca=ca_of(), ssl_init=number % 2 == 0) as context:
            if number % 3 == 0:
                exchange(runner, context)
        runner.turns(2)


def test_pythons_own_tls_goes_on_while_hundreds_of_contexts_come_and_go(runner: Runner) -> None:
    with python_tls() as talk:
        for number in range(20):
            live(runner, 15)
            talk(str(number))


@measures_memory
def test_hundreds_of_contexts_with_tls_leave_no_memory_behind(runner: Runner) -> None:
    def grown_to(times: int) -> int:
        live(runner, times)
        gc.collect()
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    before = grown_to(90)
    assert grown_to(300) - before < 1000  # KiB; each context that OpenSSL keeps is 20


def test_contexts_with_tls_are_made_on_many_threads_at_once(files: list[str]) -> None:
    """The first ones of the process: what OpenSSL sets up only once is set up by one of them."""
    source = """
        import asyncio, sys, threading
        import uvws

        cert, key, ca = sys.argv[1:]
        ready = threading.Barrier(4)
        heard = []

        async def talk(number):
            done = asyncio.Event()
            def told(connection, data):
                heard.append(data)
                done.set()
            ready.wait()
            for _ in range(5):
                done.clear()
                with uvws.Context(ssl_ca=ca, ssl_init=number % 2 == 0) as context:
                    listener = context.listen(
                        host="127.0.0.1", ssl_cert=cert, ssl_key=key,
                        on_message=lambda connection, data: connection.send(data),
                    )
                    context.connect(
                        f"wss://localhost:{listener.port}/",
                        on_connect=lambda connection, headers: connection.send("hello"),
                        on_message=told,
                    )
                    await asyncio.wait_for(done.wait(), 10)

        threads = [threading.Thread(target=asyncio.run, args=(talk(n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert heard == ["hello"] * 20, heard
    """
    run_program(source, *files)
