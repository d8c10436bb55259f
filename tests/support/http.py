"""HTTP by hand: requests on plain sockets, and what is answered."""

from __future__ import annotations

import socket
import ssl
from typing import Any, NamedTuple

from uvws.headers import Headers

from .peers import ClientThread
from .runners import Runner
from .wire import RawPeer, dial


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Headers
    body: bytes


def parse_answer(raw: bytes) -> Answer:
    """Take a response apart."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    assert separator, f"no whole head: {raw!r}"
    line, *fields = head.decode("latin-1").split("\r\n")
    version, status, _ = line.split(" ", 2)
    assert version in ("HTTP/1.0", "HTTP/1.1"), line
    pairs = [field.partition(":")[::2] for field in fields]
    headers = Headers([(name, value.strip(" \t")) for name, value in pairs])
    return Answer(int(status), headers, body)


def request(
    method: str = "GET", target: str = "/", headers: str = "", body: bytes = b"", host: str = "here"
) -> bytes:
    """Lay out a request that asks for no upgrade."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def ask(runner: Runner, listener: Any, sent: bytes, **options: Any) -> Answer:
    """Send a request on a connection of its own; returns the answer, once the server hung up."""
    peer = dial(runner, listener, **options)
    peer.send(sent)
    return answer_to(runner, peer)


def answer_to(runner: Runner, peer: RawPeer) -> Answer:
    """Return all that comes until the server hangs up."""
    runner.run(peer.ended)
    assert not peer.was_reset, f"reset after {peer.take()!r}"
    return parse_answer(peer.take())


def ask_over_tls(runner: Runner, listener: Any, sent: bytes, context: ssl.SSLContext) -> Answer:
    """Send a request through TLS, to a listener on 127.0.0.1; returns the answer."""

    async def talk() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", listener.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(sent)
            received = []
            while got := sock.recv(65536):
                received.append(got)
            return b"".join(received)

    client = ClientThread(talk, runner.wake)
    runner.add_peer(client)
    runner.run(client.done)
    return parse_answer(client.result())
