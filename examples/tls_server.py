"""An echo server over TLS (wss), on a pyuv loop.

    python examples/tls_server.py --cert chain.pem --key key.pem
    python examples/tls_server.py            # with certificates made for the occasion

The second form prints where the authority's certificate is, for the client to trust:

    SSL_CERT_FILE=/tmp/.../ca.pem python -m websockets wss://localhost:8765/
"""

import argparse
import signal
import sys
import tempfile

import _certificates

import uvws

try:
    import pyuv
except ImportError:
    sys.exit("This example runs on pyuv; docs/pyuv.md says how to install it.")


def main(port, cert, key):
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            ssl_cert=cert,
            ssl_key=key,
            on_message=lambda connection, data: connection.send(data),
        )
        print(f"Listening on wss://localhost:{listener.port}/", flush=True)
        interrupt = pyuv.Signal(loop)
        interrupt.start(lambda *_: loop.stop(), signal.SIGINT)
        loop.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server over TLS.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--cert", help="the certificate and the rest of its chain, in PEM")
    parser.add_argument("--key", help="its private key, in PEM")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if arguments.cert is None:
            authority = _certificates.make_authority(directory)
            arguments.cert, arguments.key = _certificates.make_server(directory, authority)
            print(f"The authority to trust is in {authority.cert}")
        main(arguments.port, arguments.cert, arguments.key)
