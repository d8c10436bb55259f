"""What the tests share: deadlines, loops to run, peers to talk to."""

from __future__ import annotations

from .deadlines import time_limit
from .helpers import echo, loop_kinds, no_callbacks, url_of
from .peers import ClientThread, ServerThread
from .recorder import Recorder
from .runners import Runner

__all__ = [
    "ClientThread",
    "Recorder",
    "Runner",
    "ServerThread",
    "echo",
    "loop_kinds",
    "no_callbacks",
    "time_limit",
    "url_of",
]
