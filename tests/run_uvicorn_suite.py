"""Run uvicorn's own WebSocket tests against uvws: `run_uvicorn_suite.py DIRECTORY`.

The source distribution is fetched by pip into DIRECTORY, and its tests are run from there, with the
installed uvicorn of the same version; this file is the plugin that gives them uvws for a protocol.
The exit code is 0 unless a test fails that is not in `TIED`, or one passes that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

TESTS = ("tests/protocols/test_websocket.py", "tests/middleware")
ONLY = "uvws or on_websockets"
_MEMORY = "looks into a transport in memory, and has uvws's answer before the loop has turned"
_ATTRIBUTE = "looks at an attribute of uvicorn's own classes"
TIED = {
    "test_server_keepalive_ping_pong": f"{_ATTRIBUTE}: ping_sent_at",
    "test_server_keepalive_disabled": f"{_ATTRIBUTE}: ping_timer",
    "test_connection_lost_cancels_the_pending_close_timer": f"{_ATTRIBUTE}: close_timer",
    **dict.fromkeys(
        (
            "test_send_respects_write_backpressure",
            "test_close_waits_for_the_peer_close_frame",
            "test_close_resumes_reads_paused_on_an_unconsumed_message",
            "test_data_frame_while_closing_does_not_pause_reads",
            "test_data_frame_and_peer_close_frame_in_one_read",
            "test_ping_while_closing",
            "test_close_gives_up_when_the_peer_never_replies",
            "test_shutdown_while_the_close_reply_is_pending",
            "test_connection_lost_unblocks_paused_send",
        ),
        _MEMORY,
    ),
}


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put uvws in the place of uvicorn's own classes."""
    from uvws.uvicorn import WebSocketProtocol

    module: Any = metafunc.module
    if hasattr(module, "WebSocketsSansIOProtocol"):
        module.WebSocketsSansIOProtocol = WebSocketProtocol
    if "ws_protocol_cls" in metafunc.fixturenames:
        mark = pytest.mark.parametrize("ws_protocol_cls", [WebSocketProtocol], ids=["uvws"])
        metafunc.definition.add_marker(mark)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what is tied to something else to fail, soon."""
    for item in items:
        reason = TIED.get(getattr(item, "originalname", ""))
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
            item.add_marker(pytest.mark.timeout(3, method="signal"))


def fetch(directory: Path) -> Path:
    """Return the unpacked source of the uvicorn that is installed."""
    from importlib.metadata import version

    wanted = f"uvicorn-{version('uvicorn')}"
    unpacked = directory / wanted
    if not unpacked.exists():
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "uvicorn", "--dest", str(directory)]
        subprocess.run([*command, wanted.replace("-", "==")], check=True)
        with tarfile.open(directory / f"{wanted}.tar.gz") as archive:
            archive.extractall(directory)
    return unpacked


def main() -> int:
    """Fetch and run."""
    source = fetch(Path(sys.argv[1]).resolve())
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", Path(__file__).stem]
    command += ["-q", "-rxXs", "--timeout", "60", "-k", ONLY, *TESTS, *sys.argv[2:]]
    return subprocess.run(
        command, cwd=source, env={**os.environ, "PYTHONPATH": path}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
