"""One client of many servers at once: the same question to each, the answers as they come.

    python examples/several_connections.py ws://127.0.0.1:8765/ ws://127.0.0.1:8766/

Without arguments it starts three servers itself and asks these, and one that is not there.
"""

import argparse
import asyncio

import uvws


async def ask(context, url, question):
    """Return the first message that the server sends."""
    answer = asyncio.get_running_loop().create_future()

    def settle(outcome):
        if not answer.done():
            answer.set_result(outcome)

    context.connect(
        url,
        connect_timeout=5,
        on_connect=lambda connection, _headers: connection.send(question),
        on_message=lambda connection, data: (settle(data), connection.close()),
        on_error=lambda _connection, error: settle(error),
        on_close=lambda _connection, code, reason: settle(f"closed with {code} {reason}"),
    )
    return f"{url} {await answer!r}"


def start_servers(context):
    """Return the addresses of three servers, and one at which there is none any more."""
    listeners = [
        context.listen(
            host="127.0.0.1",
            name=name,
            on_message=lambda connection, data, name=name: connection.send(f"{name} got {data!r}"),
        )
        for name in ("first", "second", "third", "closed")
    ]
    listeners[-1].close()
    return [f"ws://127.0.0.1:{listener.port}/" for listener in listeners]


async def main(urls):
    with uvws.Context() as context:
        questions = [ask(context, url, "hello") for url in urls or start_servers(context)]
        for answer in asyncio.as_completed(questions):
            print(await answer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One client of many servers at once.")
    parser.add_argument("urls", nargs="*", metavar="URL")
    asyncio.run(main(parser.parse_args().urls))
