"""Hide the server's folders from clients.

Gradio identifies files by their path in its cache folder, in URLs and in responses, and clients
send that path back. This middleware replaces the folder by an alias in responses, and the alias by
the folder in requests. Access control stays with gradio.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What clients see instead of the folder.
ALIAS = "/vheatir-demo-files"

_TEXTS = ("application/json", "text/event-stream", "text/html", "text/plain")


class HideFolder:
    """ASGI middleware that shows ``ALIAS`` in place of a folder.

    Args:
        app: the application.
        folder: absolute path, spelled as the application writes it.
    """

    def __init__(self, app: ASGIApp, folder: str) -> None:
        self.app = app
        self.folder = folder
        self.inside = json.dumps(folder)[1:-1].encode()  # escaped as in JSON: Windows' backslashes
        spellings = (self.inside, quote(folder).encode())
        self.spelled = re.compile(b"|".join(map(re.escape, spellings)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request and its response, translated."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = MutableHeaders(raw=list(scope["headers"]))
        path = scope["path"].replace(ALIAS, self.folder)
        scope = {**scope, "path": path, "headers": headers.raw}
        if headers.get("content-type", "").startswith("application/json"):
            try:
                body = await Request(scope, receive).body()
            except ClientDisconnect:
                return
            # The length changes; ``receive`` returns the whole body at once.
            del headers["content-length"]
            receive = _first(body.replace(ALIAS.encode(), self.inside), receive)
        await self.app(scope, receive, self._hiding(send))

    def _hiding(self, send: Send) -> Send:
        is_text = False

        async def hiding(message: Message) -> None:
            nonlocal is_text
            if message["type"] == "http.response.start":
                hidden = [(name, self._hide(value)) for name, value in message["headers"]]
                headers = MutableHeaders(raw=hidden)
                is_text = headers.get("content-type", "").startswith(_TEXTS)
                if is_text:
                    del headers["content-length"]
                message = {**message, "headers": headers.raw}
            elif message["type"] == "http.response.body" and is_text:
                # Gradio sends a response, or one event of a stream, as one message.
                message = {**message, "body": self._hide(message.get("body", b""))}
            await send(message)

        return hiding

    def _hide(self, text: bytes) -> bytes:
        return self.spelled.sub(ALIAS.encode(), text)


def _first(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that returns the body of a request first."""
    messages: list[Message] = [{"type": "http.request", "body": body}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received
