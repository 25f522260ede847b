"""tools/fold_level.py: the blind network equals the original at the folded level."""

from __future__ import annotations

import pytest
import torch

from tools.fold_level import fold_level
from vheatir.errors import VHeatIRError
from vheatir.zoo import load_model


def test_a_folded_level_acts_as_a_given_one_away_from_the_border() -> None:
    model = load_model("denoise_color_small")
    blind = fold_level(model, 25)
    assert not blind.takes_level
    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = model.network(x, 25.0), blind(x)
    inner = (..., slice(32, -32), slice(32, -32))
    assert torch.allclose(expected[inner], found[inner], atol=0.005)
    with torch.no_grad():
        assert (model.network(x, 5.0) - found)[inner].abs().mean() > 0.01


def test_a_blind_network_has_no_level_to_fold() -> None:
    with pytest.raises(VHeatIRError, match="takes no level"):
        fold_level(load_model("jpeg_color_small"), 25)
