"""WebSockets on sockets that other code has accepted.

Here that is a loop that turns away whoever is one too many; it could as well be systemd's socket
activation, a parent process that passes descriptors on, or a server of your own.

    python examples/adopt.py --most 2
    python -m websockets ws://127.0.0.1:8765/        # three times
"""

import argparse
import asyncio
import contextlib
import socket

import uvws


async def main(port, most):
    loop = asyncio.get_running_loop()
    with uvws.Context() as context, socket.create_server(("127.0.0.1", port)) as server:
        server.setblocking(False)
        print(f"Listening on ws://127.0.0.1:{server.getsockname()[1]}/", flush=True)
        while True:
            sock, (address, _port) = await loop.sock_accept(server)
            if len(context.connections) >= most:
                print(f"No room for {address}", flush=True)
                sock.close()
                continue
            # From here on the descriptor is the context's, which reads the request and answers it.
            context.adopt(sock, on_message=lambda connection, data: connection.send(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="WebSockets on sockets accepted elsewhere.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--most", type=int, default=1000, help="connections at a time")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(arguments.port, arguments.most))
