"""One end of a stream, with uvws."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Any

from .agenda import Agenda
from .ledger import CLOSE_CODES, Entry, Ledger
from .script import Plan, Script
from .settings import Settings

# While so much is queued no more is sent: slow readers must not fill the memory of either side.
_QUEUE_LIMIT = 1 << 20
# Where the machine is so busy that a handshake takes as long, the server may give up, after 15 s.
_HANDSHAKE_LIMIT = 10.0
_OTHER = {"client": "server", "server": "client"}


class End:
    """Sends and checks messages, and writes down what came of it.

    Attributes:
        entry: what is written down at the end.
        is_over: whether that has happened.
    """

    def __init__(
        self, settings: Settings, agenda: Agenda, ledger: Ledger, entry: Entry, plan: Plan
    ) -> None:
        self.entry = entry
        self.is_over = False
        self._plan = plan
        self._agenda = agenda
        self._ledger = ledger
        self._random = random.Random(f"{settings.seed}/{entry.stream}/{entry.side}/acts")
        self._mean_pause = 1 / settings.tempo
        self._longest_pause = settings.longest_life / 12
        self._sends = Script(settings.seed, entry.stream, entry.side)
        self._expects = Script(settings.seed, entry.stream, _OTHER[entry.side])
        self._fragments: deque[bytes] = deque()
        self._is_binary = False
        self._connection: Any = None
        self._until = 0.0
        self._pings = 0
        self._ponged = -1
        self._wrong = False
        self._no_more = False
        self._made = time.monotonic()

    # What happens on the connection

    def opened(self, connection: Any, _headers: object) -> None:
        self._connection = connection
        self._until = time.monotonic() + self._plan.life
        self._agenda.after(self._random.random() * self._mean_pause, self._act)
        if self._no_more:
            self.close()

    def received(self, _connection: Any, data: str | bytes) -> None:
        expected = self._expects.take()
        if data == expected and type(data) is type(expected):
            self.entry.received += 1
        elif not self._wrong:
            self._wrong = True
            number = self._expects.count - 1
            self._complain(f"instead of number {number}: {self._expects.find(data)}")

    def pong(self, _connection: Any, payload: bytes) -> None:
        # One may answer for several (RFC 6455, section 5.5.3), but none comes twice or too early.
        number = int(payload)
        if not self._ponged < number < self._pings:
            self._complain(f"Pong {number} behind {self._ponged}, with {self._pings} sent")
        self._ponged = number

    def closed(self, _connection: Any, code: int, _reason: str) -> None:
        self.entry.code = code
        self._over()

    def failed(self, _connection: Any, error: Exception) -> None:
        if self._connection is None:
            seconds = time.monotonic() - self._made
            if self.entry.kind == "uvws" and seconds < _HANDSHAKE_LIMIT:
                self._complain(f"could not connect, after {seconds:.1f} s: {error!r}")
            self._ledger.count(f"could not connect ({self.entry.kind}): {type(error).__name__}")
        else:
            self._complain(f"on_error: {error!r}")
        self._over()

    def _over(self) -> None:
        if self.is_over:
            self._complain("was told twice that it is over")
        self.is_over = True
        self._connection = None
        self._ledger.write(self.entry)

    def _complain(self, what: str) -> None:
        self._ledger.complain(self.entry.stream, f"{self.entry.side}, {self.entry.kind}: {what}")

    # What this end does

    def close(self) -> None:
        """End the stream in good order, behind what was sent; at once if it is not open yet."""
        self._no_more = True
        if self._connection is None or not self._connection.is_connected:
            return
        self.entry.closed = True
        self._connection.close(CLOSE_CODES[self.entry.side], "the end")

    def _act(self) -> None:
        connection = self._connection
        if connection is None or not connection.is_connected:
            return
        if time.monotonic() >= self._until and self._plan.ended_by in (self.entry.side, "both"):
            self.close()
            return
        if self._plan.pings and self._random.random() < 0.5:
            connection.send_ping(b"%d" % self._pings)
            self._pings += 1
        self._send_some(connection)
        if self.entry.side in self._plan.pauses and self._random.random() < 0.3:
            self._pause(connection)
        self._agenda.after(self._random.expovariate(1) * self._mean_pause, self._act)

    def _pause(self, connection: Any) -> None:
        connection.pause_recv()
        longest = self._longest_pause if self._plan.slow else 0.1
        seconds = self._random.random() * longest
        self._agenda.after(seconds, connection.resume_recv)

    def _send_some(self, connection: Any) -> None:
        for _ in range(self._random.randint(1, 8)):
            if connection.send_queue_size > _QUEUE_LIMIT:
                return
            if not self._fragments:
                self._begin(connection)
            elif self._random.random() < 0.8:
                self._go_on(connection)
            else:
                return  # the rest of the message comes with the next burst

    def _begin(self, connection: Any) -> None:
        message = self._sends.take()
        self.entry.bytes_sent += len(message)
        if self._plan.fragments and self._random.random() < 0.5:
            self._is_binary = isinstance(message, bytes)
            data = message if isinstance(message, bytes) else message.encode()
            cuts = sorted(self._random.randint(0, len(data)) for _ in range(3))
            ends = zip([0, *cuts], [*cuts, len(data)], strict=True)
            self._fragments.extend(data[start:end] for start, end in ends)
            self.entry.offered += 1
            return
        self.entry.offered += 1
        connection.send(message)
        self.entry.sent += 1

    def _go_on(self, connection: Any) -> None:
        part = self._fragments.popleft()
        connection.send_fragment(part, binary=self._is_binary, final=not self._fragments)
        if not self._fragments:
            self.entry.sent += 1
