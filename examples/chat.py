"""A chat for browsers: one listener serves the page and its WebSockets.

    python examples/chat.py                 # then open http://127.0.0.1:8765/ in several windows

It runs on uvloop where that is installed, else on asyncio's own loop.
"""

import argparse
import contextlib
from asyncio import Event
from urllib.parse import parse_qs

import uvws

try:
    from uvloop import run
except ImportError:
    from asyncio import run

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Chat</title>
<ul id="lines"></ul>
<form id="form"><input id="entry" autofocus autocomplete="off" placeholder="Say something"></form>
<script type="module">
  const nick = prompt("Your name?") || "somebody";
  const server = location.origin.replace(/^http/, "ws");
  const socket = new WebSocket(`${server}/chat?name=${encodeURIComponent(nick)}`);
  const show = text => {
    const line = document.createElement("li");
    line.textContent = text;
    lines.append(line);
    line.scrollIntoView();
  };
  socket.onmessage = event => show(event.data);
  socket.onclose = event => show(`Disconnected (${event.code}).`);
  form.onsubmit = event => {
    event.preventDefault();
    socket.send(entry.value);
    entry.value = "";
  };
</script>
"""


def on_request(request):
    if request.path != "/":
        return uvws.Response(404, body="Nothing here.\n")
    return uvws.Response(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE)


async def main(host, port):
    def say(text):
        for connection in context.connections:
            if connection.is_connected:
                connection.send(text)

    def on_connect(connection, headers):
        query = parse_qs(headers.get("Query", ""))
        connection.stash["name"] = query.get("name", ["somebody"])[0]
        say(f"{connection.stash['name']} came in.")

    with uvws.Context() as context:
        listener = context.listen(
            port,
            host=host,
            max_message_size=4096,
            on_request=on_request,
            on_connect=on_connect,
            on_message=lambda connection, text: say(f"{connection.stash['name']}: {text}"),
            on_close=lambda connection, *_: say(f"{connection.stash['name']} went away."),
        )
        print(f"Open http://{host}:{listener.port}/", flush=True)
        await Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat for browsers.")
    parser.add_argument("port", nargs="?", type=int, default=8765)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets others in")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        run(main(arguments.host, arguments.port))
