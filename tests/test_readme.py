"""The programs in README.md run as they stand, but for the port, and its links lead somewhere."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import time_limit
from support.examples import Example

README = Path(__file__).resolve().parent.parent / "README.md"
PORT = "8765"  # what the README has
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
SERVERS = [block for block in BLOCKS if f"port={PORT}" in block]
CLIENTS = [block for block in BLOCKS if f":{PORT}/" in block]


@pytest.fixture
def running() -> Iterator[list[Example]]:
    """Collect programs that are ended with the test."""
    started: list[Example] = []
    yield started
    for each in started:
        each.kill()


def test_every_program_of_the_readme_is_tested() -> None:
    assert SERVERS
    assert CLIENTS
    assert sorted(SERVERS + CLIENTS) == sorted(BLOCKS)


def test_every_example_is_linked_once() -> None:
    examples = [path for path in (README.parent / "examples").glob("*.py") if path.name[0] != "_"]
    linked = re.findall(r"\((examples/\w+\.py)\)", README.read_text())
    assert sorted(linked) == sorted(f"examples/{path.name}" for path in examples)


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", README.read_text())
    assert [link for link in links if not (README.parent / link).exists()] == []


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_the_readme_talks_to_a_server_of_the_readme(
    running: list[Example], tmp_path: Path, server: str, client: str
) -> None:
    for package in ("pyuv", "uvloop"):
        if f"import {package}" in server + client:
            pytest.importorskip(package)
    port = _free_port()
    server_path, client_path = tmp_path / "server.py", tmp_path / "client.py"
    server_path.write_text(server.replace(PORT, str(port)))
    client_path.write_text(client.replace(PORT, str(port)))
    serving = Example(server_path)
    running.append(serving)
    _wait_until_open(port)
    talking = Example(client_path)
    running.append(talking)
    assert talking.finish() == "hello\n"
    assert not serving.stderr


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_until_open(port: int) -> None:
    """Wait until something listens: the program does not say when."""
    deadline = time.monotonic() + time_limit(15)
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.socket() as probe:
            return probe.connect(("127.0.0.1", port))
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.02)
