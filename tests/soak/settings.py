"""What all processes of one run have to know."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        seed: of everything that is random.
        loop: "pyuv", "uvloop" or "asyncio", for the server and the uvws clients.
        connections: how many there are at any time.
        seconds: how long the traffic lasts.
        warm_up: seconds after which memory must not grow any more.
        shortest_life: of a stream, in seconds.
        longest_life: of a stream, in seconds.
        kill_every: seconds after which the process of clients is killed.
        tempo: bursts of messages a second, on each stream and in each direction.
        directory: where certificates and ledgers are; the conductor makes it.
        port: of the server without TLS.
        tls_port: of the server with it.
        relay_port: of the relay to the first.
        tls_relay_port: of the relay to the second.
    """

    seed: int
    loop: str
    connections: int
    seconds: float
    warm_up: float = 0.0
    shortest_life: float = 5.0
    longest_life: float = 60.0
    kill_every: float = 20.0
    tempo: float = 0.5
    directory: str = ""
    port: int = 0
    tls_port: int = 0
    relay_port: int = 0
    tls_relay_port: int = 0

    def to_json(self) -> str:
        """Write it down for another process."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read it."""
        return cls(**json.loads(text))
