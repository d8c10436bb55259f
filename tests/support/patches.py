"""Which libwebsockets the tests run against: ours, patched, or the system's as it is."""

from __future__ import annotations

from uvws._core import ffi, lib

# What fails without our patches, by the name of the test function. The reasons are those of the
# patches: csrc/lws-patches.
NEEDS_PATCHES: frozenset[str] = frozenset()


def is_patched() -> bool:
    """Tell whether libwebsockets has our patches."""
    return bool(ffi.string(lib.uvws_lws_patches()))
