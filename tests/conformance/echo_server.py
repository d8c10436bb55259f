"""The server under test: it sends every message back, until it is killed."""

from __future__ import annotations

import argparse

from loops import KINDS, Loop

import uvws

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--loop", choices=KINDS, required=True)
parser.add_argument("--cert", help="serve over TLS, with this certificate and key (PEM, one file)")
arguments = parser.parse_args()

loop = Loop(arguments.loop)
with uvws.Context(loop.native) as context:
    listener = context.listen(
        host="127.0.0.1",
        ssl_cert=arguments.cert,
        ssl_key=arguments.cert,
        compression="deflate",
        on_message=lambda connection, data: connection.send(data),
    )
    print("PORT", listener.port, flush=True)
    loop.run()
