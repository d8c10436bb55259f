"""What the tests share: deadlines, loops to run, peers to talk to."""

from __future__ import annotations

from .deadlines import time_limit
from .helpers import echo, loop_kinds, measures_memory, no_callbacks, url_of
from .peers import ClientThread, ServerThread
from .programs import run_program
from .recorder import Recorder
from .runners import KINDS, Runner

__all__ = [
    "KINDS",
    "ClientThread",
    "Recorder",
    "Runner",
    "ServerThread",
    "echo",
    "loop_kinds",
    "measures_memory",
    "no_callbacks",
    "run_program",
    "time_limit",
    "url_of",
]
