"""Mutual TLS: the server wants a certificate of its clients too.

A listener with `ssl_ca` lets only those in whose certificate that authority signed; a context with
`ssl_cert` and `ssl_key` shows one to the servers it connects to.

    python examples/mtls.py

It shows a client with a certificate and one without, then goes on serving; the directory that it
prints has what other clients need.
"""

import argparse
import asyncio
import contextlib
import tempfile

import _certificates

import uvws


async def say_hello(url, **certificates):
    """Return the answer, or the error."""
    answer = asyncio.get_running_loop().create_future()
    with uvws.Context(**certificates) as context:
        context.connect(
            url,
            on_connect=lambda connection, _headers: connection.send("hello"),
            on_message=lambda _connection, data: answer.set_result(data),
            on_error=lambda _connection, error: answer.set_result(error),
        )
        return await answer


async def main(port, directory):
    ca = _certificates.make_authority(directory)
    server = _certificates.make_server(directory, ca)
    client = _certificates.make_client(directory, ca)
    with uvws.Context() as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            ssl_cert=server.cert,
            ssl_key=server.key,
            ssl_ca=ca.cert,
            on_message=lambda connection, data: connection.send(data),
        )
        url = f"wss://localhost:{listener.port}/"
        known = await say_hello(url, ssl_ca=ca.cert, ssl_cert=client.cert, ssl_key=client.key)
        print("with a certificate:    ", repr(known))
        unknown = await say_hello(url, ssl_ca=ca.cert)
        print("without a certificate: ", repr(unknown))
        print(f"Listening on {url}, certificates in {directory}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Mutual TLS, both ends.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    with tempfile.TemporaryDirectory() as directory, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args().port, directory))
