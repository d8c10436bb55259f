"""Node's package ws as a peer: one process for all tests, see node.js."""

from __future__ import annotations

import functools
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from ..certificates import ca_of, certificate
from ..deadlines import time_limit
from ..runners import Runner
from . import Closed, Peer, missing

_ROOT = Path(__file__).resolve().parent.parent.parent.parent
_MODULES = _ROOT / "build" / "peers" / "node_modules"


def node_environment() -> dict[str, str]:
    """Return the environment in which Node finds ws."""
    paths = [str(_MODULES), os.environ.get("NODE_PATH", "")]
    kept = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return {**kept, "NODE_PATH": os.pathsep.join(filter(None, paths))}


@functools.cache
def _found() -> str | None:
    node = shutil.which("node")
    if node is None:
        return None
    ask = [node, "-e", "require('ws')"]
    found = subprocess.run(ask, capture_output=True, check=False, env=node_environment())
    return node if found.returncode == 0 else ""


def node_with_ws() -> str:
    """Return Node's path; the test is skipped where there is none."""
    node = _found()
    if not node:
        missing("there is no Node" if node is None else "Node has no package ws")
    return node


class NodeProcess:
    """A process that does what tests order it to."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("node.js")
        self._process = subprocess.Popen(
            [node_with_ws(), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=node_environment(),
        )
        self._numbers = itertools.count()
        self._peers: dict[int, NodePeer] = {}
        self._reader = threading.Thread(target=self._read, name="node", daemon=True)
        self._reader.start()

    def order(self, peer: NodePeer, **order: Any) -> None:
        """Have it do something for a peer."""
        number = next(self._numbers)
        self._peers[number] = peer
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, **order}) + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(time_limit(5))
        self._reader.join(time_limit(5))
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = json.loads(line)
            self._peers[report["id"]].hear(report)


class NodePeer(Peer):
    """One end of a connection in Node."""

    def __init__(self, process: NodeProcess, runner: Runner) -> None:
        self._process = process
        super().__init__(runner)
        self._ports: queue.Queue[int] = queue.Queue()
        self.errors: list[str] = []

    def serve(self, **options: Any) -> str:
        tls = options.pop("tls")
        shown = certificate()
        more = {"cert": shown.cert.decode(), "key": shown.key.decode()} if tls else {}
        self._process.order(self, what="serve", **options, **more)
        place = "wss://localhost" if tls else "ws://127.0.0.1"
        return f"{place}:{self._ports.get(timeout=time_limit(5))}/"

    def connect(self, url: str, **options: Any) -> None:
        ca = ca_of().decode() if options.pop("tls") else None
        self._process.order(self, what="connect", url=url, ca=ca, **options)

    def hear(self, report: dict[str, Any]) -> None:
        """Take a report of the process."""
        if "port" in report:
            self._ports.put(report["port"])
        elif "closed" in report:
            self.closed = Closed(*report["closed"])
            self.wake()
        else:
            self.errors.append(report["error"])
