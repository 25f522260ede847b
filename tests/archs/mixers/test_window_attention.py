"""Window attention against explicit softmax attention, in plain and shifted windows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vheatir.archs.mixers.window_attention import WindowAttention2d


def attend(mixer: WindowAttention2d, tokens: NDArray[np.float64], places: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    """Softmax attention between tokens (n, C) at positions (n, 2), in NumPy."""
    weight, bias = (p.detach().numpy() for p in (mixer.qkv.weight, mixer.qkv.bias))
    q, k, v = np.split(tokens @ weight.T + bias, 3, axis=1)
    side = mixer.windows.side
    table = mixer.position_bias.detach().numpy()
    offset = places[:, None] - places[None] + side - 1
    width = q.shape[1] // mixer.heads
    out = np.empty_like(q)
    for head in range(mixer.heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / np.sqrt(width)
        scores += table[offset[..., 0] * (2 * side - 1) + offset[..., 1], head]
        weights = np.exp(scores - scores.max(1, keepdims=True))
        out[:, part] = weights / weights.sum(1, keepdims=True) @ v[:, part]
    return out


def mixer_with_bias(index: int) -> WindowAttention2d:
    torch.manual_seed(0)
    mixer = WindowAttention2d(8, index=index, window=4, head_dim=4).double()
    torch.nn.init.normal_(mixer.position_bias)
    return mixer


def test_attention_within_windows_that_the_image_fills_or_not() -> None:
    for index, edges in ((0, ([0, 4, 8, 10], [0, 4, 7])), (1, ([0, 2, 6, 10], [0, 2, 6, 7]))):
        mixer = mixer_with_bias(index)
        u = torch.randn(2, 10, 7, 8, dtype=torch.float64)
        result = mixer.mix(u).detach().numpy()
        rows, columns = edges
        for top, bottom in zip(rows, rows[1:], strict=False):
            for left, right in zip(columns, columns[1:], strict=False):
                inside = (slice(top, bottom), slice(left, right))
                places = np.stack(np.mgrid[inside], -1).reshape(-1, 2)
                for image in range(2):
                    tokens = u[image][inside].numpy().reshape(-1, 8)
                    expected = attend(mixer, tokens, places)
                    actual = result[image][inside].reshape(-1, 8)
                    np.testing.assert_allclose(actual, expected, atol=1e-10)


def test_heads_divide_any_number_of_channels() -> None:
    for dim in (1, 7, 16, 48):
        mixer = WindowAttention2d(dim)
        assert dim % mixer.heads == 0
        assert mixer(torch.randn(1, 3, 5, dim)).shape == (1, 3, 5, dim)
