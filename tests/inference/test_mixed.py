"""The mixture of two networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network, window_of
from vheatir.inference import restore_tensor
from vheatir.inference.mixed import MixedNetwork
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


def test_tiles_are_those_of_the_network_with_the_larger_feature_maps() -> None:
    config = {"type": "VHeatIRUNet", "in_chans": 3, "out_chans": 3}
    small, large = (build_network({**config, "channels": [c, 8, 8]}) for c in (8, 24))
    channels = [_feature_channels(network) for network in (small, large)]
    assert channels[0] < channels[1]
    for first, second in ((small, large), (large, small)):
        assert _feature_channels(MixedNetwork(first, second, 0.5)) == channels[1]
