"""A server with a certificate that it signed itself: three ways for a client to deal with it.

The system's authorities do not know it, so that the connection fails. `ssl_verify=False` gets
through, to whoever answers. Better is to trust that one certificate: `ssl_ca`.

    python examples/self_signed.py                              # with a server of its own
    python examples/self_signed.py wss://localhost:8443/ --cert server.pem
"""

import argparse
import asyncio
import tempfile

import _certificates

import uvws


async def say_hello(url, ssl_ca=None, **options):
    """Return the answer, or the error."""
    answer = asyncio.get_running_loop().create_future()
    with uvws.Context(ssl_ca=ssl_ca) as context:
        context.connect(
            url,
            on_connect=lambda connection, _headers: connection.send("hello"),
            on_message=lambda _connection, data: answer.set_result(data),
            on_error=lambda _connection, error: answer.set_result(error),
            **options,
        )
        return await answer


async def show(url, cert):
    print("as it is:         ", repr(await say_hello(url)))
    print("ssl_verify=False: ", repr(await say_hello(url, ssl_verify=False)))
    print("ssl_ca:           ", repr(await say_hello(url, ssl_ca=cert)))


async def show_with_own_server():
    with tempfile.TemporaryDirectory() as directory, uvws.Context() as context:
        cert, key = _certificates.make_server(directory)
        listener = context.listen(
            host="127.0.0.1",
            ssl_cert=cert,
            ssl_key=key,
            on_message=lambda connection, data: connection.send(data),
        )
        await show(f"wss://127.0.0.1:{listener.port}/", cert)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Clients of a server that nobody vouches for.")
    parser.add_argument("url", nargs="?", help="a server that answers; default: one of its own")
    parser.add_argument("--cert", help="that server's certificate, in PEM")
    arguments = parser.parse_args()
    if arguments.url:
        asyncio.run(show(arguments.url, arguments.cert))
    else:
        asyncio.run(show_with_own_server())
