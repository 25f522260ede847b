"""Hide the server's folders from clients.

Gradio identifies files by their path in its cache folder, in URLs and in responses, and clients
send that path back. This middleware replaces the folder by an alias in responses, and the alias by
the folder in requests. Access control stays with gradio.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request

#: What clients see instead of the folder.
ALIAS = "/vheatir-demo-files"

_TEXTS = ("application/json", "text/event-stream", "text/html", "text/plain")
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class HideFolder:
    """ASGI middleware that shows ``ALIAS`` in place of a folder.

    Args:
        app: the application.
        folder: absolute path, spelled as the application writes it.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], folder: str) -> None:
        self.app = app
        inside = json.dumps(folder)[1:-1]  # escaped as in JSON (Windows' backslashes)
        self.folder = folder
        self.inside = inside.encode()
        self.spellings = (self.inside, quote(folder).encode())

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Forward a request and its response, translated."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = {**scope, "path": scope["path"].replace(ALIAS, self.folder)}
        headers = MutableHeaders(raw=list(scope["headers"]))
        if headers.get("content-type", "").startswith("application/json"):
            receive = await self._translated(scope, receive)
            # The length has changed; ``receive`` returns the whole body at once.
            del headers["content-length"]
            scope["headers"] = headers.raw
        await self.app(scope, receive, self._hiding(send))

    async def _translated(self, scope: _Message, receive: _Receive) -> _Receive:
        """Read the whole body, with the alias replaced by the folder."""
        try:
            body = await Request(scope, receive).body()
            whole = {"type": "http.request", "body": body.replace(ALIAS.encode(), self.inside)}
        except ClientDisconnect:
            whole = {"type": "http.disconnect"}
        waiting: list[_Message] = [whole]

        async def translated() -> _Message:
            return waiting.pop() if waiting else await receive()

        return translated

    def _hiding(self, send: _Send) -> _Send:
        is_text = False

        async def hiding(message: _Message) -> None:
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
        for folder in self.spellings:
            text = text.replace(folder, ALIAS.encode())
        return text
