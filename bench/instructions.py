"""Counts the instructions of uvws for each message: `python bench/instructions.py [--check]`.

The process that is measured runs under callgrind, once for N messages and once for 2N; the
difference of the two counts, divided by N, is what a message takes, without what starting takes.
The peer waits for every answer, so that a count is the same each time, to within a percent, however
busy the machine is. The kernel's work is not in it.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import progress
from harness import BENCH, PEERS, BenchError, environment, read_port, say, table
from lockstep import PONG, Lockstep
from programs import Certificate, make_certificate

KEPT = BENCH / "instructions.json"
TEXT, BINARY = 1, 2
START_SECONDS = 120.0
PATIENCE_SECONDS = 300.0
SETTINGS = ("pyuv", "uvloop", "asyncio")


@dataclass(frozen=True)
class Work:
    """What is done so many times.

    Attributes:
        name: For the command line.
        label: For the table; what one is.
        count: N.
        role: The script that is measured: server or client.
        drive: Does it so many times, with the server at a port, or the client on a socket.
        tls: Whether the server has a certificate.
        deflate: Whether it has permessage-deflate.
        binary: Whether messages are binary.
    """

    name: str
    label: str
    count: int
    drive: Callable[[Any, int], None]
    role: str = "server"
    tls: bool = False
    deflate: bool = False
    binary: bool = False


def text_of(size: int, number: int = 0) -> bytes:
    """Some text that compresses somewhat."""
    line = b'{"number": %d, "name": "sample", "value": %d},' % (number, number * 7919)
    return (line * (size // len(line) + 1))[:size]


def echo(
    opcode: int, size: int, *, at_once: int = 1, tls: bool = False, deflate: bool = False
) -> Callable[[int, int], None]:
    """Messages are sent, so many at once, and come back."""

    def drive(port: int, count: int) -> None:
        certificate = make_certificate().certificate if tls else None
        peer = Lockstep.to(port, certificate=certificate, deflate=deflate)
        for number in range(0, count, at_once):
            messages = [text_of(size, number + i) for i in range(at_once)]
            peer.send(opcode, messages)
            peer.expect(opcode, messages)
        peer.close()

    return drive


def receive(size: int, at_once: int) -> Callable[[socket.socket, int], None]:
    """Messages are sent to a client, so many at once; a Ping shows that it has them."""

    def drive(listener: socket.socket, count: int) -> None:
        stream, _ = listener.accept()
        peer = Lockstep.accepted(stream)
        for _ in range(0, count, at_once):
            peer.send(TEXT, [text_of(size)] * at_once, ping=b"?")
            peer.expect(PONG, [b"?"])
        peer.close()

    return drive


def connect(port: int, count: int) -> None:
    """A connection is opened, and closed."""
    for _ in range(count):
        Lockstep.to(port).close()


WORKS = (
    Work("echo-64B", "64 B of text, one in flight", 2000, echo(TEXT, 64)),
    Work("echo-64B-32", "64 B of text, 32 in flight", 16000, echo(TEXT, 64, at_once=32)),
    Work("echo-64K", "64 KiB, binary", 200, echo(BINARY, 1 << 16), binary=True),
    Work("echo-1M", "1 MiB, binary", 20, echo(BINARY, 1 << 20), binary=True),
    Work("tls-64B", "64 B of text over TLS 1.3", 2000, echo(TEXT, 64, tls=True), tls=True),
    Work(
        *("deflate-1K", "1 KiB of text with permessage-deflate", 500),
        echo(TEXT, 1 << 10, deflate=True),
        deflate=True,
    ),
    Work(
        *("client-64B", "64 B of text received, 32 at once, with a Ping", 16000),
        receive(64, 32),
        role="client",
    ),
    Work("connection", "a connection opened and closed", 300, connect),
)


@contextmanager
def counted(command: Sequence[str], out: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program under callgrind, which writes its count into `out` at the end."""
    tool = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
    # The order of sets and dictionaries depends on hashes.
    fixed = {**os.environ, "PYTHONPATH": str(BENCH), "PYTHONHASHSEED": "0"}
    try:
        process = subprocess.Popen(
            [*tool, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=fixed,
        )
    except FileNotFoundError:
        raise BenchError("valgrind was not found") from None
    with process:
        try:
            yield process
        finally:
            # A client has come to its end by itself.
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def total_of(out: Path) -> int:
    """The instructions that callgrind counted."""
    for line in out.read_text().splitlines() if out.exists() else ():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise BenchError("callgrind wrote no count")


def run(work: Work, loop: str, count: int, certificate: Certificate) -> int:
    """Do the work so many times; returns the instructions of the whole process."""
    peer = PEERS[f"uvws-{loop}"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        if work.role == "client":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(START_SECONDS)
                url = f"--url=ws://127.0.0.1:{listener.getsockname()[1]}"
                with counted(peer.command("client", url), out) as process:
                    work.drive(listener, count)
                    said = json.loads(process.communicate(timeout=PATIENCE_SECONDS)[0])
                    if said["messages"] != count:
                        raise BenchError(f"{count} messages were sent, and {said} counted")
        else:
            settings = certificate.options() if work.tls else []
            settings += ["--deflate"] if work.deflate else []
            settings += ["--binary"] if work.binary else []
            with counted(peer.command("server", *settings), out) as process:
                work.drive(read_port(process, work.name, START_SECONDS), count)
        return total_of(out)


def measure(work: Work, loop: str) -> int:
    """Instructions for each."""
    certificate = make_certificate()
    first, second = (run(work, loop, n, certificate) for n in (work.count, 2 * work.count))
    return round((second - first) / work.count)


def first_line(*command: str) -> str:
    """What a program says of its version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "none"
    return done.stdout.split("\n", 1)[0].strip()


def conditions() -> dict[str, str]:
    """What the counts depend on besides uvws; memcpy and the like choose their code by the CPU."""
    where = environment()
    return {
        "cpu": where["cpu"],
        "machine": platform.machine(),
        "python": where["python"],
        "libc": " ".join(platform.libc_ver()),
        "compiler": first_line(os.environ.get("CC", "cc"), "--version"),
        "openssl": first_line("openssl", "version"),
        "valgrind": first_line("valgrind", "--version"),
        "pyuv": str(where["versions"]["pyuv"]),
        "uvloop": str(where["versions"]["uvloop"]),
    }


def change(new: int, old: int | None) -> float | None:
    """In percent."""
    return None if old is None else (new - old) / old * 100


def markdown(counts: dict[str, int], kept: dict[str, int]) -> str:
    """The table."""
    lines = []
    for work in WORKS:
        if work.name in counts:
            new, old = counts[work.name], kept.get(work.name)
            percent = change(new, old)
            lines.append(
                [
                    work.name,
                    work.label,
                    f"{new:,}",
                    "-" if old is None else f"{old:,}",
                    "-" if percent is None else f"{percent:+.2f} %",
                ]
            )
    return table(["name", "one is", "instructions", "kept", "change"], lines)


def complaints(counts: dict[str, int], kept: dict[str, int], tolerance: float) -> list[str]:
    """What is to be said of the counts that have moved too far, in either direction."""
    found = []
    for name, new in counts.items():
        percent = change(new, kept.get(name))
        if percent is None:
            found.append(f"{name}: no count is kept; --keep keeps this one")
        elif percent > tolerance:
            found.append(f"{name}: {percent:+.2f} %, more than the {tolerance:g} % allowed")
        elif percent < -tolerance:
            found.append(f"{name}: {percent:+.2f} %, an improvement: --keep holds it fast")
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", default=["*"], help=f"names or patterns: {names}"
    )
    parser.add_argument("--loop", choices=SETTINGS, default="pyuv")
    parser.add_argument(
        "--check", action="store_true", help="fail if a count has moved from the one that is kept"
    )
    parser.add_argument("--tolerance", type=float, default=3.0, help="in percent; 3")
    parser.add_argument(
        "--keep", action="store_true", help=f"write the counts into bench/{KEPT.name}"
    )
    options = parser.parse_args(arguments)
    for pattern in options.rows:
        if not fnmatch.filter(names, pattern):
            parser.error(f"nothing is called {pattern!r}; known: {', '.join(names)}")
    if options.tolerance < 0:
        parser.error("--tolerance must be at least 0")
    return options


def count_all(works: Sequence[Work], loop: str) -> dict[str, int]:
    """Count, and tell how far it is."""
    counts: dict[str, int] = {}
    with progress.show(len(works)) as bar:
        for work in works:
            bar.begin(work.name)
            counts[work.name] = measure(work, loop)
            bar.end(work.name, f"{counts[work.name]:,} instructions")
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Count; returns the exit code."""
    options = parse(arguments)
    works = [w for w in WORKS if any(fnmatch.fnmatch(w.name, p) for p in options.rows)]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"conditions": {}, "counts": {}}
    of_loop = kept["counts"].get(options.loop, {})
    try:
        counts = count_all(works, options.loop)
    except BenchError as error:
        say(f"error: {error}")
        return 1
    print(markdown(counts, of_loop))
    print(f"\nuvws on {options.loop}; user space alone, without the kernel.")
    here = conditions()
    other = {name: was for name, was in kept["conditions"].items() if here.get(name) != was}
    for name, was in other.items():
        print(f"The kept counts were made with another {name}: {was}; here it is {here.get(name)}.")
    if options.keep:
        kept["conditions"] = here
        kept["counts"].setdefault(options.loop, {}).update(counts)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    if options.check:
        found = complaints(counts, of_loop, options.tolerance)
        for complaint in found:
            say(f"failed: {complaint}")
        return 1 if found else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
