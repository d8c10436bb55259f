"""Server on socketify, which is uWebSockets on a libuv loop of its own."""

from settings import server_settings
from socketify import App, AppListenOptions, AppOptions, CompressOptions, OpCode, WebSocket

settings = server_settings()
TOPIC = "all"
NO_LIMIT = 2**32 - 1


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send a message back."""
    ws.send(message, opcode)


def subscribe(ws: WebSocket) -> None:
    """One more for the broadcasts."""
    ws.subscribe(TOPIC)


def broadcast(_ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send a message to everyone."""
    app.publish(TOPIC, message, opcode)


def listening(options: AppListenOptions) -> None:
    """Say where; with a host among the options it would read memory that is freed."""
    print("PORT", options.port, flush=True)


tls = None
if settings.certificate is not None:
    tls = AppOptions(key_file_name=settings.key, cert_file_name=settings.certificate)
app = App(tls)
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": NO_LIMIT,
        "max_backpressure": NO_LIMIT,
        "idle_timeout": 0,
        "open": subscribe if settings.broadcast else None,
        "message": broadcast if settings.broadcast else echo,
    },
)
app.listen(0, listening)
app.run()
