"""The client under test: it runs each case that wstest's server has, and sends messages back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from loops import KINDS, Loop

import uvws

AGENT = "uvws"
# wstest writes its reports before its answer to the request for them leaves.
_BUSY_SECONDS = 300.0


class EchoClient:
    """One connection after the other: the number of cases, the cases, the report.

    Attributes:
        error: what went wrong, if a connection could not be opened.
    """

    def __init__(self, context: uvws.Context, url: str, finished: Callable[[], None]) -> None:
        self._context = context
        self._url = url
        self._finished = finished
        self._count = 0
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._connect("/getCaseCount", self._on_count, lambda: self._run_case(1))

    def _on_count(self, _connection: uvws.Connection, data: str | bytes) -> None:
        self._count = json.loads(data)

    def _run_case(self, case: int) -> None:
        if case > self._count:
            self._report()
            return
        path = f"/runCase?case={case}&agent={AGENT}"
        self._connect(path, self._echo, lambda: self._run_case(case + 1))

    def _echo(self, connection: uvws.Connection, data: str | bytes) -> None:
        connection.send(data)

    def _report(self) -> None:
        self._connect(f"/updateReports?agent={AGENT}", self._echo, self._finished)

    def _connect(
        self,
        path: str,
        on_message: Callable[[uvws.Connection, str | bytes], None],
        then: Callable[[], None],
    ) -> None:
        self._context.connect(
            self._url + path,
            connect_timeout=_BUSY_SECONDS,
            compression="deflate",
            on_message=on_message,
            on_close=lambda *_: then(),
            on_error=self._on_error,
        )

    def _on_error(self, _connection: uvws.Connection, error: Exception) -> None:
        self.error = error
        self._finished()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("url")
parser.add_argument("--loop", choices=KINDS, required=True)
parser.add_argument("--ca", help="the authority to trust (PEM)")
arguments = parser.parse_args()

loop = Loop(arguments.loop)
with uvws.Context(loop.native, ssl_ca=arguments.ca) as context:
    client = EchoClient(context, arguments.url, loop.stop)
    client.start()
    loop.run()
sys.exit(f"{client.error!r}" if client.error is not None else 0)
