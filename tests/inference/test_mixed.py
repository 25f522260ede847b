"""The mixture of two networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network, window_of
from vheatir.inference import restore_tensor
from vheatir.inference.mixed import (
    MixedNetwork,
    compression_evidence,
    photo_weight,
    rounded,
)
from vheatir.inference.restorer import _feature_channels


class Scaled(nn.Module):
    def __init__(self, factor: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.factor, self.dtype = factor, dtype

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor).to(self.dtype)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_result_is_the_weighted_mean(share: float) -> None:
    x = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    mixed = MixedNetwork(Scaled(1.0), Scaled(0.5), share)
    torch.testing.assert_close(mixed(x), share * x + (1 - share) * 0.5 * x)


def test_results_of_low_precision_are_mixed_in_float32() -> None:
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = MixedNetwork(Scaled(1.0, torch.bfloat16), Scaled(0.9), 0.3)(x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, 0.3 * x.bfloat16().float() + 0.7 * 0.9 * x)


def test_images_are_padded_for_both_networks() -> None:
    first, second = Scaled(1.0), Scaled(0.5)
    assert window_of(MixedNetwork(first, second, 0.5)) == 1
    first.window_size, second.window_size = 4, 6
    mixed = MixedNetwork(first, second, 0.5)
    assert window_of(mixed) == 12
    x = torch.rand(1, 3, 13, 17, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(restore_tensor(mixed, x), 0.75 * x)


def test_gray_images_are_mixed_from_a_gray_and_a_colour_network() -> None:
    x = torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    gray, color = Scaled(1.0), Scaled(0.5)
    gray.in_chans, color.in_chans = 1, 3
    for first, second, share in ((gray, color, 0.3), (color, gray, 0.7)):
        torch.testing.assert_close(MixedNetwork(first, second, share)(x), 0.65 * x)


def test_tiles_are_those_of_the_network_with_the_larger_feature_maps() -> None:
    config = {"type": "VHeatIRUNet", "in_chans": 3, "out_chans": 3}
    small, large = (build_network({**config, "channels": [c, 8, 8]}) for c in (8, 24))
    channels = [_feature_channels(network) for network in (small, large)]
    assert channels[0] < channels[1]
    for first, second in ((small, large), (large, small)):
        assert _feature_channels(MixedNetwork(first, second, 0.5)) == channels[1]


def weight_of(*luma: np.ndarray) -> float:
    return photo_weight(*(each[..., None] for each in luma))


def results(
    noise: float, removed: float, details: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A compressed image, and two results that differ by the noise; the JPEG model removes more."""
    rng = np.random.default_rng(0)
    photo = np.full((2, 64, 96), 120.0, np.float32)
    checkerboard = (np.indices((64, 96)).sum(0) % 2 * 2 - 1).astype(np.float32)
    photo[:, :, 48:] += details * checkerboard[:, 48:]
    jpeg = photo + noise * rng.standard_normal(photo.shape, dtype=np.float32)
    return jpeg + np.float32(removed) * checkerboard, photo, jpeg


def response(sigma: float) -> float:
    """Fraction of a checkerboard that a Gaussian blur leaves."""
    kernel = np.exp(-np.square(np.arange(-8, 9) / sigma) / 2)
    alternating = (-1.0) ** np.arange(-8, 9)
    return float((kernel @ alternating / kernel.sum()) ** 2)


def share_of_noise(noise: float, lost: float) -> float:
    return 1 / (1 + (lost / noise) ** 1.5)


def test_the_weight_is_that_of_the_noise_beside_what_the_photo_model_loses() -> None:
    assert weight_of(*results(0, 0)) == weight_of(*results(0, 9, 20)) == 0
    # `photo` loses nothing of a flat image, whatever the JPEG model removes.
    for removed in (0, 4):
        assert weight_of(*results(1, removed)) == pytest.approx(share_of_noise(1, 0.45), rel=0.02)
    # Where there are details, they are a checkerboard.
    sharpness = ((1 - response(0.5)) / (1 - response(1.5))) ** 2
    for removed in (0, 1):
        expected = share_of_noise(9, 12 * sharpness * removed**2 + 0.45)
        assert weight_of(*results(3, removed, 30)) == pytest.approx(expected, rel=0.05)
    weights = [weight_of(*results(*case)) for case in ((1, 1, 30), (3, 1, 30), (3, 0), (9, 0))]
    assert weights == sorted(weights)
    assert weights[-1] > 0.99


def test_noise_in_color_counts() -> None:
    images = [np.stack([each] * 3, -1) for each in results(1, 0)]
    gray = weight_of(*results(1, 0))
    assert photo_weight(*images) == pytest.approx(gray, abs=1e-5)
    images[2][..., 2] = images[1][..., 2]  # of three channels, two have noise
    expected = share_of_noise(2 / 3, 0.45)
    assert photo_weight(*images) == pytest.approx(expected, rel=0.02)


def test_soft_details_lose_less_than_sharp_ones() -> None:
    waves = 20 * np.sin(2 * np.pi * np.arange(96) / np.array([[[3]], [[8]]]))
    weights = []
    for wave in waves:
        photo = np.broadcast_to(120 + wave, (1, 64, 96)).astype(np.float32)
        jpeg = photo + 2 * np.random.default_rng(0).standard_normal(photo.shape, dtype=np.float32)
        weights.append(weight_of(jpeg + 3, photo, jpeg))
    assert weights[0] < weights[1] - 0.2


def test_differences_at_edges_are_no_noise() -> None:
    ramp = np.linspace(40, 200, 96, dtype=np.float32) + np.zeros((1, 64, 1), np.float32)
    photo = ramp + 40 * (np.arange(96) % 32 < 16)
    edges = np.abs(np.gradient(photo, axis=2)) > 5
    jpeg = photo + 20 * edges
    assert weight_of(jpeg, photo, jpeg) < 0.01


def test_noise_of_shadows_counts_in_a_bright_image() -> None:
    photo = np.full((1, 64, 90), 200.0, np.float32)
    photo[:, :, :30], photo[:, :, 30:60] = 40, 120
    noise = 1.2 * np.random.default_rng(0).standard_normal(photo.shape, dtype=np.float32)
    noise[:, :, 30:] = 0
    jpeg = photo + noise
    # A third of the tones has noise of energy 1.44.
    assert weight_of(jpeg, photo, jpeg) == pytest.approx(share_of_noise(0.48, 0.45), rel=0.05)


def test_small_weights_are_rounded() -> None:
    assert [rounded(w) for w in (0.1, 0.2, 0.8, 0.9)] == [0, 0.2, 0.8, 1]


def test_compression_shows_where_more_is_removed_than_details_and_noise_explain() -> None:
    rng = np.random.default_rng(0)
    smooth = np.full((2, 64, 64, 3), 100.0)
    rough = smooth + rng.normal(0, 8, (2, 64, 64, 1))  # the same in all channels: luma
    removed = rng.normal(0, 1, (2, 64, 64, 1))
    assert compression_evidence(smooth, smooth, noise=0) == 0
    for image in (smooth, smooth[..., :1]):
        assert compression_evidence(image + removed, image, noise=0) == pytest.approx(2, rel=0.05)
        assert compression_evidence(image + removed, image, noise=3) == pytest.approx(
            1 / 9.5, rel=0.05
        )
    assert compression_evidence(rough + removed, rough, noise=0) < 0.1
    # colours that the model removes are no evidence
    chroma = np.array([1.0, -0.299 / 0.587, 0.0])
    assert compression_evidence(smooth + 5 * removed * chroma, smooth, noise=0) < 0.01
