"""The command line: see the package."""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import replace

from .conductor import conduct
from .settings import Settings

LOOPS = ("pyuv", "uvloop", "asyncio")


def parse(arguments: list[str]) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--loop", choices=LOOPS, default="uvloop", help="of server and clients")
    parser.add_argument("--seed", type=int, help="of everything that is random; printed")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else secrets.randbelow(1 << 32)
    settings = Settings(
        seed=seed, loop=given.loop, connections=given.connections, seconds=given.minutes * 60
    )
    return replace(settings, warm_up=min(300.0, settings.seconds / 4))


def main() -> int:
    """Run it; returns the exit code."""
    outcome = conduct(parse(sys.argv[1:]), say=lambda line: print(line, flush=True))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
