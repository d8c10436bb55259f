"""Run the asyncio tests of the `websockets` package with uvws.aio on one side.

The source of the version that Debian 13 has is fetched through apt, as that of libwebsockets is,
into build/websockets-tests; nothing of it is kept in this repository. Its tests run against its own
code on the one side and uvws.aio on the other (support/websockets_shim.py says which). Those that
speak of something else than behaviour are left out, each for a reason that is named below.

The exit code is 0 when all others pass.
"""

from __future__ import annotations

import collections
import hashlib
import importlib
import logging
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "websockets-tests"
VERSION = "15.0.1"
TARBALL = f"python-websockets_{VERSION}.orig.tar.gz"
SHA256 = "8451495265af3e368f794c4dc15c99ce90c771d95560f542bff8c64b5455af3b"

INSIDE = "reaches into the inside of the implementation"
SOCK = "connect(sock=...) is missing"
STREAMING = "messages are received whole, not fragment by fragment"
WORDS = "another wording of a message"
TLS = "looks at Python's own ssl objects"
PROXY = "TLS to the proxy itself is missing"
WAITS = "process_request cannot wait"
VOID = "what the peer sends after close() is dropped"

# By name, whatever the class.
LEFT_OUT = {
    # clients
    "test_connection_closed_during_handshake": WORDS,
    "test_existing_socket": SOCK,
    "test_http_response": "the body of a refusal is not read",
    "test_http_response_without_content_length": "the body of a refusal is not read",
    "test_junk_handshake": WORDS,
    "test_redirect_with_existing_socket": SOCK,
    "test_https_proxy_without_ssl": PROXY,
    "test_proxy_ssl_without_https_proxy": PROXY,
    "test_secure_uri_without_ssl": "ssl=None is not an error with wss://",
    "test_unix_with_path_and_sock": SOCK,
    "test_unix_without_path_or_sock": WORDS,
    "test_unsupported_proxy": "a proxy is never quoted: there may be a password in it",
    "test_reject_invalid_server_certificate": "uvws.aio.TLSError is no ssl.SSLError",
    "test_reject_invalid_server_hostname": "uvws.aio.TLSError is no ssl.SSLError",
    "test_secure_connection": TLS,
    "test_set_server_hostname": TLS,
    "test_set_server_hostname_explicitly": TLS,
    "test_set_server_hostname_implicitly": TLS,
    # servers
    "test_async_process_request_raises_exception": WORDS,
    "test_async_process_response_raises_exception": WORDS,
    "test_bad_credentials": "credentials are never quoted",
    "test_bad_list_of_credentials": "credentials are never quoted",
    "test_close_server_keeps_handlers_running": VOID,
    "test_close_server_rejects_connecting_connections": WAITS,
    "test_handshake_fails": "a hook that changes the request or the handshake's own headers",
    "test_process_request_raises_exception": WORDS,
    "test_process_response_raises_exception": WORDS,
    # connections
    "test_broadcast_reports_connection_failing_to_send": INSIDE,
    "test_broadcast_skips_connection_failing_to_send": INSIDE,
    "test_close_during_send": "after 1011 the answer of the peer is waited for",
    "test_close_preserves_queued_messages": VOID,
    "test_close_timeout_waiting_for_connection_closed": "a client closes the TCP connection itself",
    "test_disable_keepalive": INSIDE,
    "test_keepalive": INSIDE,
    "test_keepalive_ignores_timeout": INSIDE,
    "test_keepalive_reports_errors": INSIDE,
    "test_keepalive_terminates_while_sleeping": INSIDE,
    "test_keepalive_terminates_while_waiting_for_pong": INSIDE,
    "test_keepalive_times_out": INSIDE,
    "test_local_address": INSIDE,
    "test_logger": "the logger is not wrapped for each connection",
    "test_ping": INSIDE,
    "test_recv_non_utf8_text": WORDS,
    "test_recv_streaming_cancellation_before_receiving": STREAMING,
    "test_recv_streaming_cancellation_while_receiving": STREAMING,
    "test_recv_streaming_during_recv_streaming": STREAMING,
    "test_recv_streaming_fragmented_binary": STREAMING,
    "test_recv_streaming_fragmented_text": STREAMING,
    "test_recv_streaming_non_utf8_text": STREAMING,
    "test_remote_address": INSIDE,
    "test_request": INSIDE,
    "test_response": INSIDE,
    "test_send_while_send_async_blocked": INSIDE,
    "test_send_while_send_blocked": INSIDE,
    "test_unexpected_failure_in_data_received": INSIDE,
    "test_unexpected_failure_in_send_context": INSIDE,
    "test_writing_in_data_received_fails": INSIDE,
    "test_writing_in_send_context_fails": INSIDE,
}
# Where only one class is meant.
LEFT_OUT_OF = {
    "SecureClientTests.test_connection": TLS,
    "SecureServerTests.test_connection": TLS,
    "SecureUnixServerTests.test_connection": TLS,
    "ServerTests.test_existing_socket": "",  # of a server, which there is: it runs
    "ServerTests.test_logger": "",
    "ClientTests.test_logger": "",
}


def fetch() -> Path:
    """Return the directory with the sources, fetched where they are not there."""
    home = BUILD / f"websockets-{VERSION}"
    if home.is_dir():
        return home
    sys.path.insert(0, str(ROOT))
    build_lws = importlib.import_module("build_lws")
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        apt = build_lws.PrivateApt(Path(scratch))
        apt.update()
        subprocess.run(
            [*apt.command, "source", "--download-only", "--tar-only", "python-websockets"],
            cwd=scratch,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        tarball = Path(scratch, TARBALL)
        found = hashlib.sha256(tarball.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f"{TARBALL} has the SHA-256 {found}, not the expected {SHA256}")
        with tarfile.open(tarball) as archive:
            archive.extractall(BUILD, filter="data")
    return home


def reason_for(test: unittest.TestCase) -> str:
    """Return why a test is left out; an empty text where it runs."""
    _, class_name, name = test.id().rsplit(".", 2)
    if f"{class_name}.{name}" in LEFT_OUT_OF:
        return LEFT_OUT_OF[f"{class_name}.{name}"]
    return LEFT_OUT.get(name, "")


def cases(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """Return all tests in a suite."""
    found: list[unittest.TestCase] = []
    for each in suite:
        found += cases(each) if isinstance(each, unittest.TestSuite) else [each]
    return found


def main() -> None:
    """Run them and print how many there are of each kind."""
    home = fetch()
    sys.path[:0] = [str(home), str(home / "src"), str(ROOT / "tests")]
    from support import websockets_shim as shim

    logging.disable(logging.NOTSET)
    suite = unittest.TestSuite()
    reasons: collections.Counter[str] = collections.Counter()
    for module in (shim.client_tests(), shim.server_tests(), shim.connection_tests()):
        for test in cases(unittest.defaultTestLoader.loadTestsFromModule(module)):
            reason = reason_for(test)
            if reason:
                reasons[reason] += 1
            else:
                suite.addTest(test)
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    for _, reason in result.skipped:
        reasons[reason] += 1
    bad = len(result.failures) + len(result.errors)
    ran = result.testsRun - len(result.skipped)
    print(f"websockets {VERSION}: {ran + sum(reasons.values())} asyncio tests")
    for reason, count in reasons.most_common():
        print(f"  {count:3} left out: {reason}")
    print(f"{ran - bad} passed, {bad} failed")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
