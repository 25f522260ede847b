"""HEIC and AVIF in the demo: uploads on the page, and the batch through the API."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from vheatir.demo.uploads import describe, read_upload
from vheatir.errors import VHeatIRError


@pytest.fixture
def files(tmp_path: Path, photograph: np.ndarray[Any, Any]) -> dict[str, Path]:
    """Return phone photographs: 8 bits, 10 bits, AVIF."""
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = np.ascontiguousarray(photograph[:64, :96])
    found = {name: tmp_path / name for name in ("a.heic", "deep.HEIC", "c.avif")}
    heif.from_pillow(Image.fromarray(image)).save(found["a.heic"], quality=-1, chroma=444)
    deep = (image.astype(np.uint16) * 257).tobytes()
    heif.from_bytes("RGB;16", (96, 64), deep).save(found["deep.HEIC"], quality=-1, chroma=444)
    Image.fromarray(image).save(found["c.avif"], quality=100, subsampling="4:4:4")
    return found


def test_uploads_are_read(files: dict[str, Path], photograph: np.ndarray[Any, Any]) -> None:
    for name, path in files.items():
        pixels = read_upload(path, 10_000).pixels
        high = 65535 if name.startswith("deep") else 255
        difference = np.abs(pixels / high * 255 - photograph[:64, :96])
        assert difference.max() <= 2
        assert describe(pixels) == f"96 × 64, {16 if high > 255 else 8}-bit RGB"


def test_the_missing_package_is_named(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(VHeatIRError, match=r"'a.heic' is HEIC.*pip install pillow-heif"):
        read_upload(files["a.heic"], 10_000)


def test_the_batch_writes_what_the_command_line_would(
    files: dict[str, Path], address: str, tmp_path: Path
) -> None:
    client_module = pytest.importorskip("gradio_client")
    (tmp_path / "raw.dng").write_bytes(b"II*\0")
    given = [client_module.handle_file(path) for path in (*files.values(), tmp_path / "raw.dng")]
    client = client_module.Client(address, verbose=False, download_files=tmp_path / "got")
    try:
        archive, report = client.predict(given, api_name="/restore_batch")
        png, _ = client.predict(given, "Noise", "PNG", api_name="/restore_batch")
    finally:
        client.close()
    assert "3 of 4 restored" in report and "is a raw file" in report
    with zipfile.ZipFile(archive) as found:
        assert sorted(found.namelist()) == ["a.jpg", "c.jpg", "deep.png"]
        assert Image.open(io.BytesIO(found.read("a.jpg"))).size == (96, 64)
    with zipfile.ZipFile(png) as found:
        assert sorted(found.namelist()) == ["a.png", "c.png", "deep.png"]


@pytest.mark.browser
@pytest.mark.parametrize("name", ["a.heic", "deep.HEIC", "c.avif"])
def test_the_page_takes_them(page: Any, files: dict[str, Path], name: str) -> None:
    page.set_input_files("#upload input[type=file]", str(files[name]))
    depth = 16 if name.startswith("deep") else 8
    page.wait_for_selector(f"#about:has-text('96 × 64, {depth}-bit RGB')")
    page.click("#restore")
    page.wait_for_selector("#details:has-text(' s in total')")


@pytest.mark.browser
def test_the_page_takes_a_dropped_one(page: Any, files: dict[str, Path]) -> None:
    """Browsers on systems without HEIC support give its files no MIME type."""
    contents = list(files["a.heic"].read_bytes())
    drop = """(contents) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(contents)], "a.heic"));
        const at = document.querySelector("#upload input[type=file]").parentElement;
        const place = at.querySelector("button") || at;
        place.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    }"""
    page.evaluate(drop, contents)
    page.wait_for_selector("#about:has-text('96 × 64, 8-bit RGB')")
