"""A small HTTP server on pyuv that hands upgrade requests over to uvws.

Both live on one loop. The server has read the request by then: it goes along as `initial_data`.

    python examples/pyuv_http.py
    curl http://127.0.0.1:8765/
    python -m websockets ws://127.0.0.1:8765/
"""

import argparse
import signal
import sys

import uvws

try:
    import pyuv
except ImportError:
    sys.exit("This example runs on pyuv; docs/pyuv.md says how to install it.")

END_OF_HEAD = b"\r\n\r\n"
LONGEST_HEAD = 16 << 10


def wants_websocket(head):
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    return any(name == b"upgrade" and value.strip() == b"websocket" for name, _, value in fields)


def respond(client, status, text):
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
    response = f"{head}Connection: close\r\n\r\n{text}".encode()
    client.write(response, lambda client, _error: client.close())


class Server:
    """Answers requests, or lets uvws do it."""

    def __init__(self, loop, context, port):
        self._context = context
        self._loop = loop
        self._tcp = pyuv.TCP(loop)
        self._tcp.bind(("127.0.0.1", port))
        self._tcp.listen(self._accept)
        self.port = self._tcp.getsockname()[1]

    def _accept(self, server, _error):
        client = pyuv.TCP(self._loop)
        server.accept(client)
        head = bytearray()
        client.start_read(lambda client, data, _error: self._read(client, head, data))

    def _read(self, client, head, data):
        if data is None:  # the client has closed
            client.close()
            return
        head += data
        if END_OF_HEAD not in head and len(head) < LONGEST_HEAD:
            return
        client.stop_read()
        if END_OF_HEAD not in head:
            respond(client, "431 Request Header Fields Too Large", "")
        elif wants_websocket(head):
            # The context duplicates the descriptor of whatever is no socket.socket.
            self._context.adopt(
                client,
                initial_data=bytes(head),
                on_message=lambda connection, data: connection.send(data),
            )
            client.close()
        else:
            respond(client, "200 OK", "Talk WebSocket to me.\n")


def main(port):
    loop = pyuv.Loop.default_loop()
    with uvws.Context(loop) as context:
        server = Server(loop, context, port)
        print(f"Listening on http://127.0.0.1:{server.port}/", flush=True)
        interrupt = pyuv.Signal(loop)
        interrupt.start(lambda *_: loop.stop(), signal.SIGINT)
        loop.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An HTTP server on pyuv, and WebSockets.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    main(parser.parse_args().port)
