"""A short run of the soak (`make soak` is the long one): see tests/soak."""

from __future__ import annotations

import pytest

from soak.conductor import conduct
from soak.settings import Settings
from support import KINDS, time_limit

# Seconds of traffic; starting and ending it takes about two more.
SECONDS = 4.0


@pytest.mark.timeout(time_limit(120))
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_amid_faults_arrives_once_in_order_and_whole(kind: str) -> None:
    if kind != "asyncio":
        pytest.importorskip(kind)
    settings = Settings(
        seed=KINDS.index(kind),
        loop=kind,
        connections=100,
        seconds=SECONDS,
        shortest_life=0.5,
        longest_life=4.0,
        kill_every=2.5,
        tempo=2.0,
    )
    said: list[str] = []
    outcome = conduct(settings, say=said.append)
    assert not outcome.faults, "\n".join(said)
