"""A process of uvws clients: as soon as one is over the next one comes."""

from __future__ import annotations

import gc
import random
import sys
from pathlib import Path

from support.runners import Runner, make_runner

from .agenda import Agenda
from .end import End
from .ledger import Entry, Ledger
from .process import new_descriptors, on_stop, open_descriptors, tell
from .script import Plan
from .settings import Settings

_FOR_EVER = 7 * 24 * 3600.0
_CONNECTS_A_SECOND = 200.0


class Clients:
    """Keeps up so many connections, some of them through the relay."""

    def __init__(
        self, settings: Settings, runner: Runner, name: str, first_stream: int, relayed: float
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._agenda = Agenda(runner)
        self._ledger = Ledger(Path(settings.directory, f"{name}.ledger"))
        self._random = random.Random(f"{settings.seed}/{name}")
        self._kind = name
        self._next_stream = first_stream
        self._relayed = relayed
        self._live: set[End] = set()
        self._stopped = False
        self._context = runner.context(ssl_ca=str(Path(settings.directory, "ca.pem")))

    def run(self, count: int) -> None:
        """Keep up so many connections until the conductor says stop."""
        before = open_descriptors()
        on_stop(self._stop)
        for number in range(count):
            self._agenda.after(number / _CONNECTS_A_SECOND, self._connect)
        self._runner.run(lambda: self._stopped, _FOR_EVER)
        for end in self._live:
            end.close()
        self._runner.run(lambda: not self._sweep(), 60)
        self._runner.turns(5)
        gc.collect()
        tell(
            final=True,
            descriptors=new_descriptors(before),
            connections=len(self._context.connections),
            objects=len(self._context._core.connections),
            pinned=len(self._context._core._pinned),
        )

    def _sweep(self) -> set[End]:
        self._live = {end for end in self._live if not end.is_over}
        return self._live

    def _stop(self) -> None:
        self._stopped = True
        self._runner.wake()

    def _connect(self) -> None:
        if self._stopped:
            return
        settings = self._settings
        stream, self._next_stream = self._next_stream, self._next_stream + 1
        relayed = self._random.random() < self._relayed
        kind = "relayed" if relayed else self._kind
        plan = Plan.of(settings.seed, stream, settings.shortest_life, settings.longest_life)
        end = _Client(settings, self._agenda, self._ledger, Entry(stream, "client", kind), plan)
        self._live.add(end)
        end.then = lambda: self._again(end)
        ports = {
            (False, False): settings.port,
            (False, True): settings.relay_port,
            (True, False): settings.tls_port,
            (True, True): settings.tls_relay_port,
        }
        scheme = "wss" if plan.tls else "ws"
        self._context.connect(
            f"{scheme}://127.0.0.1:{ports[plan.tls, relayed]}/?stream={stream}&kind={kind}",
            compression="deflate" if plan.compressed else None,
            connect_timeout=30,
            on_connect=end.opened,
            on_message=end.received,
            on_close=end.closed,
            on_error=end.failed,
            on_pong=end.pong,
        )

    def _again(self, end: End) -> None:
        self._live.discard(end)
        self._agenda.after(self._random.random() / 2, self._connect)


class _Client(End):
    """Calls `then` when it is over."""

    def _over(self) -> None:
        super()._over()
        self.then()


def main() -> None:
    settings = Settings.from_json(sys.argv[1])
    name, count, first_stream, relayed = sys.argv[2:]
    runner = make_runner(settings.loop)
    Clients(settings, runner, name, int(first_stream), float(relayed)).run(int(count))
    runner.finish()
    if runner.reported:
        tell(reported=[repr(error) for error in runner.reported])


if __name__ == "__main__":
    main()
