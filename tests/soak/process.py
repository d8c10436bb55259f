"""What the processes of a run have in common: they report on stdout, and stdin says stop."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tell(**content: Any) -> None:
    """Say something to the conductor."""
    print(json.dumps(content), flush=True)


def on_stop(call: Callable[[], object]) -> None:
    """Call something in a thread once the conductor says stop, or is gone."""

    def wait() -> None:
        sys.stdin.readline()
        call()

    threading.Thread(target=wait, name="stop", daemon=True).start()


def open_descriptors() -> dict[str, str]:
    """Return the open file descriptors, and what each of them is."""
    entries = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return {entry.name: str(entry.readlink()) for entry in entries}


def new_descriptors(before: dict[str, str]) -> list[str]:
    """Return what is open and was not before; a number may have gone from one to another."""
    now = open_descriptors()
    new = [f"{fd}: {what}" for fd, what in now.items() if before.get(fd) != what]
    return new if len(now) > len(before) else []
