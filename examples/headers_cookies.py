"""Headers of the handshake: static ones, some for each connection, cookies, and a refusal.

The server wants a bearer token, gives newcomers a session cookie, and knows them by it when they
come back. `--client` shows how a client sends headers and reads those of the response.

    python examples/headers_cookies.py
    python examples/headers_cookies.py --client ws://127.0.0.1:8765/      # in another terminal
"""

import argparse
import asyncio
import contextlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

import uvws

TOKEN = "Bearer open-sesame"
visits = {}  # by session


def session_of(headers):
    with contextlib.suppress(CookieError, KeyError):
        return SimpleCookie(headers["Cookie"])["session"].value
    return None


def on_handshake(headers):
    """Decide about a request: a rejection, or more headers for the response."""
    given = headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), TOKEN.encode()):
        return uvws.Reject(401, {"WWW-Authenticate": "Bearer"}, "Who are you?\n")
    if session_of(headers) in visits:
        return {}
    session = secrets.token_urlsafe()
    visits[session] = 1
    return {"Set-Cookie": f"session={session}; HttpOnly; SameSite=Strict"}


def on_connect(connection, headers):
    session = session_of(headers)
    if session in visits:
        visits[session] += 1
        connection.send(f"Welcome back, this is visit {visits[session]}.")
    else:
        connection.send("Welcome, stranger.")


async def serve(port):
    with uvws.Context() as context:
        listener = context.listen(
            port,
            host="127.0.0.1",
            headers={"Server": f"uvws/{uvws.__version__}"},
            on_handshake=on_handshake,
            on_connect=on_connect,
        )
        print(f"Listening on ws://127.0.0.1:{listener.port}/", flush=True)
        await asyncio.Event().wait()


async def visit(context, url, headers):
    """Return the cookie, if one was set, and what the server says."""
    greeting = asyncio.get_running_loop().create_future()
    cookie = SimpleCookie()
    context.connect(
        url,
        headers=headers,
        on_connect=lambda _connection, headers: cookie.load(headers.get("Set-Cookie", "")),
        on_message=lambda connection, text: (greeting.set_result(text), connection.close()),
        on_error=lambda _connection, error: greeting.set_exception(error),
    )
    return cookie, await greeting


async def be_client(url):
    with uvws.Context() as context:
        try:
            await visit(context, url, {})
        except uvws.HandshakeError as error:
            print(f"Without a token: {error.status}")
        cookie, greeting = await visit(context, url, {"Authorization": TOKEN})
        print(greeting)
        known = cookie["session"].OutputString(attrs=[])  # "session=..."
        _, greeting = await visit(context, url, {"Authorization": TOKEN, "Cookie": known})
        print(greeting)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Headers and cookies of the handshake.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--client", metavar="URL", help="visit this server three times")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(be_client(arguments.client) if arguments.client else serve(arguments.port))
