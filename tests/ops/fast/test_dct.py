"""The transform at inference: without PyTorch's compiler, and in place."""

from __future__ import annotations

import subprocess
import sys

import pytest
import scipy.fft
import torch

from vheatir.ops.dct import Backend
from vheatir.ops.fast.dct import transform_


def test_inference_does_not_import_the_compiler() -> None:
    """The first call of a custom operator would: seconds and 70 MB."""
    code = (
        "import sys, torch; from vheatir.ops import dct2, idct2; x = torch.rand(1, 130, 9, 2)\n"
        "with torch.no_grad(): y = idct2(dct2(x, (1, 2), 'fft'), (1, 2), 'fft')\n"
        "assert torch.allclose(x, y, atol=1e-5) and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("backend", ["matmul", "fft"])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("target", ["itself", "columns", "rows", "anywhere"])
def test_a_transform_of_strips_is_written_to_the_given_array(
    backend: Backend, inverse: bool, dim: int, batch: int, target: str
) -> None:
    x = torch.randn(batch, 9, 12, 6, dtype=torch.float64)[:, :, 3:7, :4]  # not contiguous
    reference = scipy.fft.idctn if inverse else scipy.fft.dctn
    expected = torch.from_numpy(reference(x.numpy(), axes=(dim,), norm="ortho"))
    other = torch.zeros(batch, 20, 15, 4, dtype=torch.float64)
    into = {
        "itself": x,
        "columns": other[:, 2:11, 5:9],
        "rows": other.view(batch, -1, 4, 4)[:, 2:11],
        "anywhere": None,
    }[target]
    with torch.no_grad():
        y = transform_(x, dim, backend, inverse=inverse, into=into)
    assert into is None or y is into
    torch.testing.assert_close(y, expected)
    # nothing is written outside the target
    if target in ("columns", "rows"):
        assert torch.count_nonzero(other) <= expected.numel()
