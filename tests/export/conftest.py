"""The two small models, exported once: each export takes some seconds."""

from __future__ import annotations

import pytest

from vheatir.export.source import Source, open_source

ONNX = "the extra integrations is not installed: pip install 'vheatir[integrations]'"


@pytest.fixture(scope="session")
def photo() -> tuple[Source, bytes]:
    return _export("photo_small_clean")


@pytest.fixture(scope="session")
def denoiser() -> tuple[Source, bytes]:
    return _export("denoise_color_small")


def _export(name: str) -> tuple[Source, bytes]:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=ONNX)
    from vheatir.export.graph import to_onnx

    source = open_source(name)
    return source, to_onnx(source)
