"""A server of asyncio's streams that hands upgrade requests over to uvws.

The stream has read the request by then: it goes along as `initial_data`. The context duplicates
the descriptor, so that the stream is closed like any other.

    python examples/asyncio_streams.py
    curl http://127.0.0.1:8765/
    python -m websockets ws://127.0.0.1:8765/

It runs on uvloop where that is installed, else on asyncio's own loop.
"""

import argparse
import asyncio
import contextlib

import uvws

try:
    from uvloop import run
except ImportError:
    from asyncio import run

RESPONSE = b"""\
HTTP/1.1 200 OK\r
Content-Type: text/plain\r
Content-Length: 22\r
Connection: close\r
\r
Talk WebSocket to me.
"""


def wants_websocket(head):
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    return any(name == b"upgrade" and value.strip() == b"websocket" for name, _, value in fields)


async def handle(context, reader, writer):
    with contextlib.closing(writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return
        if wants_websocket(head):
            writer.transport.pause_reading()  # what comes now is not the stream's any more
            context.adopt(
                writer.get_extra_info("socket"),
                initial_data=head,
                on_message=lambda connection, data: connection.send(data),
            )
        else:
            writer.write(RESPONSE)
            await writer.drain()


async def main(port):
    with uvws.Context() as context:
        server = await asyncio.start_server(
            lambda reader, writer: handle(context, reader, writer), "127.0.0.1", port
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            print(f"Listening on http://127.0.0.1:{port}/", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server of asyncio's streams, and WebSockets.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    with contextlib.suppress(KeyboardInterrupt):
        run(main(parser.parse_args().port))
