"""What the demo's server takes from strangers."""
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from editing.uploads import MOST_BYTES

MOST_BODY = MOST_BYTES * 4 // 3 + 2**16  # an upload in base64, and what comes along
_Message = MutableMapping[str, Any]


class LimitedRequests:
    """ASGI middleware: refuses larger bodies, and Gradio's own route for uploads, which would keep files on the disk;
    the page has no use for it."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: _Message, receive: Callable[[], Awaitable[_Message]],
                       send: Callable[[_Message], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].rstrip("/").endswith("/upload"):
            await _refuse(send, 403, b"no files are kept here")
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BODY:
            await _refuse(send, 413, b"too large")
            return
        received = 0

        async def counted() -> _Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BODY:  # sent in pieces, without a length
                return {"type": "http.disconnect"}
            return message

        await self.app(scope, counted, send)


async def _refuse(send: Callable[[_Message], Awaitable[None]], status: int, text: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text})
