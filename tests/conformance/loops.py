"""The loops that the testees run on."""

from __future__ import annotations

from typing import Any

KINDS = ("uvloop", "pyuv", "asyncio")


class Loop:
    """A loop of one kind: `native` is what uvws.Context takes."""

    def __init__(self, kind: str) -> None:
        if kind == "pyuv":
            import pyuv

            self.native: Any = pyuv.Loop.default_loop()
            self.run = self.native.run
        elif kind == "uvloop":
            import uvloop

            self.native = uvloop.new_event_loop()
            self.run = self.native.run_forever
        else:
            import asyncio

            self.native = asyncio.new_event_loop()
            self.run = self.native.run_forever

    def stop(self) -> None:
        """Have run() return."""
        self.native.stop()
