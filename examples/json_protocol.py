"""Requests and responses in JSON over one connection, matched by their ids.

The server runs each request in a task of its own, so that a slow one holds up nobody; the client
awaits each response as if it were a function call, in whatever order they arrive. What JSON repeats
is not sent again: both ends ask for compression.

    python examples/json_protocol.py                         # the server
    python examples/json_protocol.py ws://127.0.0.1:8765/    # a client, in another terminal
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import operator

import uvws


async def slowly(seconds, value):
    await asyncio.sleep(seconds)
    return value


METHODS = {"add": operator.add, "upper": str.upper, "slowly": slowly}


async def respond(connection, text):
    number = None
    try:
        request = json.loads(text)
        number = request["id"]
        result = METHODS[request["method"]](*request["params"])
        if asyncio.iscoroutine(result):
            result = await result
        response = {"id": number, "result": result}
    except Exception as error:
        response = {"id": number, "error": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(uvws.ConnectionClosed):  # the client did not wait
        connection.send(json.dumps(response))


async def serve(port):
    tasks = set()  # asyncio itself holds them only weakly

    def start(connection, text):
        task = asyncio.create_task(respond(connection, text))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    with uvws.Context() as context:
        listener = context.listen(port, host="127.0.0.1", compression="deflate", on_message=start)
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        await asyncio.Event().wait()


class Client:
    """Calls the methods of a server."""

    def __init__(self, context, url):
        self._ids = itertools.count(1)
        self._waiting = {}
        self._open = asyncio.get_running_loop().create_future()
        self._connection = context.connect(
            url,
            compression="deflate",
            on_connect=lambda *_: self._open.set_result(None),
            on_error=lambda _connection, error: self._open.set_exception(error),
            on_message=self._on_response,
            on_close=self._on_close,
        )

    async def call(self, method, *params):
        """Return the result, or raise RuntimeError with what the server said."""
        await self._open
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        return await future

    def _on_response(self, _connection, text):
        response = json.loads(text)
        future = self._waiting.pop(response["id"])
        if "error" in response:
            future.set_exception(RuntimeError(response["error"]))
        else:
            future.set_result(response["result"])

    def _on_close(self, _connection, code, reason):
        for future in self._waiting.values():
            future.set_exception(ConnectionError(f"closed with {code} {reason}"))


async def ask(url):
    with uvws.Context() as context:
        client = Client(context, url)

        async def show(method, *params):
            try:
                print(method, params, "->", await client.call(method, *params))
            except RuntimeError as error:
                print(method, params, "failed:", error)

        await asyncio.gather(
            show("slowly", 0.5, "last"), show("add", 2, 3), show("upper", "q"), show("no such")
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Requests and responses in JSON, both ends.")
    parser.add_argument("url", nargs="?", help="be a client of this server")
    parser.add_argument("--port", type=int, default=8765, help="where to serve")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(ask(arguments.url) if arguments.url else serve(arguments.port))
