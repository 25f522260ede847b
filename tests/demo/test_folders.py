"""The alias of the upload folder, in requests and responses."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

httpx = pytest.importorskip("httpx", reason="the demo needs gradio: pip install 'vheatir[app]'")
pytest.importorskip("starlette", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo.folders import ALIAS, HideFolder  # noqa: E402

FOLDERS = ["/tmp/some one/cache", "C:\\Users\\someone\\Temp\\gradio"]


def run_apart(coroutine: Any) -> Any:
    """Run a coroutine in a thread: a browser started earlier keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def ask(folder: str, method: str, address: str, **request: Any) -> tuple[Any, list[Any]]:
    """Send a request to an app that names its folder; returns its response and its input."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    heard = []

    async def listen(request: Request) -> Response:
        heard.append(request.path_params.get("file"))
        if request.method == "POST":
            heard.append(await request.json())
        return JSONResponse({"path": f"{folder}/a.png"}, headers={"link": quote(folder)})

    async def events(request: Request) -> Response:
        lines = (f"data: {json.dumps({'path': f'{folder}/{n}.png'})}\n\n" for n in range(3))
        return StreamingResponse(lines, media_type="text/event-stream")

    async def pixels(request: Request) -> Response:
        return Response(b"\x89PNG" + folder.encode(), media_type="image/png")

    routes = [
        Route("/listen", listen, methods=["POST"]), Route("/events", events),
        Route("/pixels", pixels), Route("/file={file:path}", listen),
    ]  # fmt: skip
    app = HideFolder(Starlette(routes=routes), folder)

    async def talk() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
            return await client.request(method, address, **request)

    return run_apart(talk()), heard


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_alias_goes_out_and_the_folder_comes_in(folder: str) -> None:
    sent = {"data": [{"path": f"{ALIAS}/hash/a.png"}, "y" * 300_000]}
    answer, heard = ask(folder, "POST", "/listen", json=sent)
    assert heard[1] == {"data": [{"path": f"{folder}/hash/a.png"}, "y" * 300_000]}
    assert answer.json() == {"path": f"{ALIAS}/a.png"}
    assert answer.headers["link"] == ALIAS
    _, heard = ask(folder, "GET", f"/file={ALIAS}/hash/a.png")
    assert heard == [f"{folder}/hash/a.png"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_streams_hide_it_in_every_event(folder: str) -> None:
    answer, _ = ask(folder, "GET", "/events")
    paths = [json.loads(line[6:])["path"] for line in answer.text.splitlines() if line]
    assert paths == [f"{ALIAS}/{number}.png" for number in range(3)]


def test_images_are_left_alone() -> None:
    answer, _ = ask(FOLDERS[0], "GET", "/pixels")
    assert answer.content == b"\x89PNG" + FOLDERS[0].encode()
    assert int(answer.headers["content-length"]) == len(answer.content)
