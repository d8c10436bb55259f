"""What `compression=` means here."""

from __future__ import annotations

from .._core import lib
from ..compression import Deflate

# As the `websockets` package has them: a quarter of the memory, for little less compression.
_DEFLATE = Deflate(server_max_window_bits=12, client_max_window_bits=12, memory_level=5)


def deflate_option(value: object) -> Deflate | None:
    """Check `compression=`.

    Returns:
        What is offered or accepted; None for nothing, which is all that a libwebsockets without our
        patches can do: a peer never relies on compression.

    Raises:
        ValueError: it is neither "deflate", a `uvws.Deflate` nor None.
    """
    if value is not None and value != "deflate" and not isinstance(value, Deflate):
        raise ValueError(f"unsupported compression: {value}")
    if value is None or not lib.uvws_has_deflate():
        return None
    return value if isinstance(value, Deflate) else _DEFLATE
