"""The server process."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from support.runners import Runner, make_runner

from .agenda import Agenda
from .end import End
from .ledger import Entry, Ledger
from .process import new_descriptors, on_stop, open_descriptors, tell
from .script import Plan
from .settings import Settings

_STATUS_EVERY = 0.5
_FOR_EVER = 7 * 24 * 3600.0


class Server:
    """Both listeners and the ends of all streams."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self._settings = settings
        self._runner = runner
        self._agenda = Agenda(runner)
        self._ledger = Ledger(Path(settings.directory, "server.ledger"))
        self._stopped = False
        self._live: dict[Any, End] = {}
        self._ended = 0
        self._context = runner.context()

    def serve(self) -> None:
        """Serve until the conductor says stop and all connections are gone."""
        before = self._listen()
        on_stop(self._stop)
        self._status()
        self._runner.run(lambda: self._stopped, _FOR_EVER)
        self._runner.run(lambda: not self._live and not self._context.connections, 60)
        self._runner.turns(5)
        gc.collect()
        # The connections that never became a WebSocket are C's only; the kernel knows of them.
        tell(
            final=True,
            descriptors=new_descriptors(before),
            connections=len(self._context.connections),
            objects=len(self._context._core.connections),
            pinned=len(self._context._core._pinned),
        )

    def _listen(self) -> dict[str, str]:
        callbacks = {
            "on_connect": self._opened,
            "on_message": lambda connection, data: self._live[connection].received(
                connection, data
            ),
            "on_close": self._closed,
            "on_error": lambda connection, error: self._live[connection].failed(connection, error),
            "on_pong": lambda connection, payload: self._live[connection].pong(connection, payload),
        }
        options = {"host": "127.0.0.1", "compression": "deflate", **callbacks}
        plain = self._context.listen(name="plain", **options)
        directory = Path(self._settings.directory)
        files = {"ssl_cert": str(directory / "cert.pem"), "ssl_key": str(directory / "key.pem")}
        secure = self._context.listen(name="secure", **files, **options)
        self._runner.turns(3)
        before = open_descriptors()
        tell(port=plain.port, tls_port=secure.port)
        return before

    def _stop(self) -> None:
        self._stopped = True
        self._runner.wake()

    def _status(self) -> None:
        tell(live=len(self._live), ended=self._ended)
        self._agenda.after(_STATUS_EVERY, self._status)

    def _opened(self, connection: Any, headers: Any) -> None:
        query = parse_qs(headers["Query"])
        stream = int(query["stream"][0])
        entry = Entry(stream, "server", query["kind"][0])
        settings = self._settings
        plan = Plan.of(settings.seed, stream, settings.shortest_life, settings.longest_life)
        self._live[connection] = end = End(settings, self._agenda, self._ledger, entry, plan)
        end.opened(connection, headers)

    def _closed(self, connection: Any, code: int, reason: str) -> None:
        self._live.pop(connection).closed(connection, code, reason)
        self._ended += 1


def main() -> None:
    settings = Settings.from_json(sys.argv[1])
    runner = make_runner(settings.loop)
    Server(settings, runner).serve()
    runner.finish()
    if runner.reported:
        tell(reported=[repr(error) for error in runner.reported])


if __name__ == "__main__":
    main()
