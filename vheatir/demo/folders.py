"""Keep the machine's folders out of what the demo says.

Gradio names files by their path in its cache folder, in addresses and in answers alike, and clients
send that path back. Here another name takes the folder's place on the way out, and is turned back
on the way in; what may be read stays gradio's decision.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from starlette.datastructures import MutableHeaders

#: What strangers see instead of the folder.
ALIAS = "/vheatir-demo-files"

_TEXTS = ("application/json", "text/event-stream", "text/html", "text/plain")
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class HideFolder:
    """ASGI middleware that shows ``ALIAS`` for a folder.

    Args:
        app: the application.
        folder: absolute path, as the application writes it.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], folder: str) -> None:
        self.app = app
        inside = json.dumps(folder)[1:-1]  # as it stands in JSON: Windows' backslashes doubled
        self.folder = folder
        self.inside = inside.encode()
        self.spellings = (self.inside, quote(folder).encode())

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = {**scope, "path": scope["path"].replace(ALIAS, self.folder)}
        headers = MutableHeaders(raw=list(scope["headers"]))
        if headers.get("content-type", "").startswith("application/json"):
            receive = await self._translated(receive)
            # Its length has changed; the body that ``receive`` gives is whole.
            del headers["content-length"]
            scope["headers"] = headers.raw
        await self.app(scope, receive, self._hiding(send))

    async def _translated(self, receive: _Receive) -> _Receive:
        """Read the whole body, with the folder where the alias stood."""
        body, more, last = b"", True, None
        while more:
            message = await receive()
            if message["type"] != "http.request":  # it hung up
                last = message
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
        whole = {"type": "http.request", "body": body.replace(ALIAS.encode(), self.inside)}
        waiting: list[_Message] = [last or whole]

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
                # Gradio sends an answer, or one event of a stream, in one piece.
                message = {**message, "body": self._hide(message.get("body", b""))}
            await send(message)

        return hiding

    def _hide(self, text: bytes) -> bytes:
        for folder in self.spellings:
            text = text.replace(folder, ALIAS.encode())
        return text
