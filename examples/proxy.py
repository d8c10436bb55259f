"""A client behind a proxy: an HTTP one, which it asks for a tunnel (CONNECT), or SOCKS5.

Without `--proxy` the environment decides: https_proxy for wss, http_proxy for ws, then all_proxy,
but for the hosts in no_proxy. `--proxy ""` connects directly whatever that says.

    python examples/proxy.py --proxy http://user:password@127.0.0.1:3128 wss://example.org/
    python examples/proxy.py --proxy socks5://127.0.0.1:1080 wss://example.org/

The server is one that answers, like examples/echo.py.
"""

import argparse
import asyncio

import uvws


async def main(url, proxy):
    answer = asyncio.get_running_loop().create_future()
    with uvws.Context(proxy=proxy) as context:
        context.connect(
            url,
            connect_timeout=10,
            on_connect=lambda connection, _headers: connection.send("hello"),
            on_message=lambda _connection, data: answer.set_result(data),
            on_error=lambda _connection, error: answer.set_exception(error),
        )
        try:
            print(f"received {await answer!r}")
        except (OSError, uvws.Error) as error:
            raise SystemExit(f"failed: {error}") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A client behind a proxy.")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8765/")
    parser.add_argument("--proxy", help="host:port or a URL; default: the environment's")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.url, arguments.proxy))
