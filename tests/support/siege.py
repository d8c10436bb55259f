"""A well-behaved client and an attacker of the same server, each in a process of its own.

The client's echoes are timed twice in one go, in peace and under attack, so that a slow or busy
machine slows both. Run as a program it is that client, which starts the attacker.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import attackers
from .attackers import Target
from .deadlines import time_limit
from .runners import Runner

_TESTS = Path(__file__).resolve().parent.parent
_MESSAGE = b"\x81\xc0" + bytes(4) + b"x" * 64  # a text, with a mask of zeros
_ANSWER = 66
_PEACEFUL = 300
_LONGEST = 20.0


class Siege:
    """An attack on a listener that sends messages back, and how a good client fares meanwhile.

    Attributes:
        peace: the median of the client's round trips without an attack, in seconds.
        attacked: the same under attack.
        slowest: of those under attack.
        echoes: how many there were under attack.
        outcome: what the attacker has to say.
    """

    def __init__(self, runner: Runner, listener: Any, attack: str, **options: Any) -> None:
        """Begin; the loop has to run until `done`.

        Args:
            attack: the name of a function in `attackers`.
            options: for that function.
        """
        self.peace = self.attacked = self.slowest = 0.0
        self.echoes = 0
        self.outcome: Any = None
        self._wake = runner.wake
        request = {"port": listener.port, "attack": attack, "options": options}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "support.siege", json.dumps(request)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
        )
        self._said = ""
        self._is_over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        runner.add_peer(self)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        self._said = self._popen.stdout.read()
        self._is_over = True
        self._wake()

    def done(self) -> bool:
        """Tell whether it is over, and what came of it is there."""
        if not self._is_over:
            return False
        if self._said and self.outcome is None:
            report = json.loads(self._said)
            self.peace, self.attacked = report["peace"], report["attacked"]
            self.slowest, self.echoes = report["slowest"], report["echoes"]
            self.outcome = report["outcome"]
        assert self._said, "the attacker failed; see its traceback"
        return True

    def stop(self) -> None:
        """End both processes."""
        self._popen.kill()
        self._popen.wait(time_limit(5))
        self._reader.join(time_limit(5))
        assert self._popen.stdout is not None
        self._popen.stdout.close()


class _GoodClient:
    def __init__(self, target: Target) -> None:
        self._sock = target.websocket()
        self._sock.settimeout(time_limit(_LONGEST))

    def echo(self) -> float:
        """Return the seconds of a round trip."""
        began = time.perf_counter()
        self._sock.sendall(_MESSAGE)
        left = _ANSWER
        while left:
            got = self._sock.recv(left)
            assert got, "the server has closed the good client's connection"
            left -= len(got)
        return time.perf_counter() - began


def _attack(name: str, target: Target, options: dict[str, Any], pipe: Any) -> None:
    """The attacker's process."""

    def begun() -> None:
        pipe.send(None)

    attack: Callable[..., Any] = getattr(attackers, name)
    pipe.send(attack(target, begun, **options))


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    target = Target(request["port"])
    client = _GoodClient(target)
    peace = [client.echo() for _ in range(_PEACEFUL)][_PEACEFUL // 3 :]
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    arguments = (request["attack"], target, request["options"], theirs)
    attacker = fork.Process(target=_attack, args=arguments, daemon=True)
    attacker.start()
    theirs.close()
    ours.recv()  # it has begun
    attacked = []
    while not ours.poll() or not attacked:
        attacked.append(client.echo())
    outcome = ours.recv()
    attacker.join()
    return {
        "peace": statistics.median(peace),
        "attacked": statistics.median(attacked),
        "slowest": max(attacked),
        "echoes": len(attacked),
        "outcome": outcome,
    }


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
