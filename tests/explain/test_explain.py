"""Influence and diffusivity against the known reach of a network and known values of k."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vheatir import cli, zoo
from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.explain.influence import diffusivities, trace_influence
from vheatir.image_io import write_image
from vheatir.inference import Restorer
from vheatir.weights import save_weights
from vheatir.zoo import model_to_explain


def restorer_of(tmp_path: Path, **config: object) -> Restorer:
    torch.manual_seed(0)
    net = build_network({"in_chans": 1, **config})
    for parameter in net.parameters():  # the initial network is the identity, without influence
        parameter.data += 0.05 * torch.randn_like(parameter)
    path = save_weights(tmp_path / "w.safetensors", net, {"task": "denoise_gray", "level": [0, 55]})
    return Restorer(path, "cpu")


def unet(tmp_path: Path, mixer: str) -> Restorer:
    return restorer_of(
        tmp_path, type="VHeatIRUNet", channels=[8, 8], depths=[1, 1], mixers=["conv", mixer]
    )


def reach(values: np.ndarray, pixel: int, point: tuple[int, int]) -> int:
    """Return the largest distance along an axis, in image pixels, with any change."""
    rows, columns = np.nonzero(values > 1e-6 * values.max())
    return max(
        np.abs(rows * pixel + pixel // 2 - point[0]).max(),
        np.abs(columns * pixel + pixel // 2 - point[1]).max(),
    )


def test_convolutions_reach_as_far_as_their_kernels_and_heat_everywhere(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((96, 128)).astype(np.float32)
    point = (40, 60)
    plain = trace_influence(unet(tmp_path, "conv"), image, point)
    heat = trace_influence(unet(tmp_path, "hco_spread"), image, point)
    assert [stage.title for stage in heat.stages] == ["down 1", "coarsest scale", "up 1", "result"]
    assert [stage.pixel for stage in heat.stages] == [2, 4, 2, 1]
    # Pixel-unshuffle by 2, then three 3x3 convolutions up to the end of the stage, 2 pixels each.
    assert reach(heat.stages[0].values, 2, point) <= 3 * 2 + 2
    assert reach(plain.stages[1].values, 4, point) < 30
    assert (heat.stages[1].values > 0).mean() > 0.9
    assert (heat.receptive_field.values > 0).mean() > 0.9 > (plain.stages[3].values > 0).mean()
    assert heat.stages[1].radius > heat.stages[0].radius


@pytest.mark.parametrize("side", [(9, 9), (5, 3), (49, 49), (64, 40)])
def test_the_side_of_a_token_does_not_depend_on_the_image(
    tmp_path: Path, side: tuple[int, int]
) -> None:
    restorer = unet(tmp_path, "conv")
    traced = trace_influence(restorer, np.full(side, 99, np.uint8), (1, 1), 25)
    large = trace_influence(restorer, np.full((128, 128), 99, np.uint8), (1, 1), 25)
    assert [each.pixel for each in traced.stages] == [each.pixel for each in large.stages]
    assert traced.stages[-1].pixel == traced.receptive_field.pixel == 1


def test_the_receptive_field_is_the_gradient(tmp_path: Path) -> None:
    restorer = unet(tmp_path, "hco")
    image = np.random.default_rng(1).random((24, 24))
    influence = trace_influence(restorer, image, (10, 12))
    step, network = 1e-4, restorer.network.double()
    expected = np.zeros((2, 2))
    for dy in range(2):
        for dx in range(2):
            values = []
            for sign in (1, -1):
                x = torch.from_numpy(image.astype(np.float32)).double()[None, None]
                x[0, 0, 9 + dy, 11 + dx] += sign * step
                with torch.no_grad():
                    values.append(float(network(x)[0, 0, 10, 12]))
            expected[dy, dx] = abs(values[0] - values[1]) / (2 * step)
    found = influence.receptive_field.values[9:11, 11:13]
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-5)


def test_learned_diffusivity_is_read_from_the_network() -> None:
    net = build_network(
        {"type": "VHeatIRUNet", "channels": [8, 16], "depths": [1, 1],
         "mixers": ["conv", "hco_spread"], "fve_size": 8}
    )  # fmt: skip
    net.body.fve.data.zero_()  # type: ignore[union-attr, operator]
    (found,) = diffusivities(net)
    assert (found.title, found.k.shape, found.pixel) == ("coarsest scale", (8, 8, 8), 4)
    # Without an embedding k is the bias: log-spaced from 0.02 to 100 tokens squared.
    np.testing.assert_allclose(found.k[3, 5], np.geomspace(0.02, 100, 8), rtol=1e-4)
    np.testing.assert_allclose(found.spread[-1], np.sqrt(200) * 4, rtol=1e-4)
    flat = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [2, 1]})
    titles = [each.title for each in diffusivities(flat)]
    assert titles == ["group 1, block 1", "group 1, block 2", "group 2"]
    assert diffusivities(build_network({"type": "VHeatIR", "depths": [1], "mixer": "none"})) == []


def test_the_flat_network_and_windows_at_the_border(tmp_path: Path) -> None:
    restorer = restorer_of(tmp_path, type="VHeatIR", embed_dim=8, depths=[1, 1], downscale=2)
    image = np.random.default_rng(0).random((300, 270)).astype(np.float32)
    influence = trace_influence(restorer, image, (299, 3))
    assert influence.image.shape == (256, 256, 1) and influence.point == (255, 3)
    assert influence.image[255, 3, 0] == pytest.approx(image[299, 3])
    assert [stage.title for stage in influence.stages] == ["group 1", "group 2", "result"]
    assert np.unravel_index(influence.stages[-1].values.argmax(), (256, 256)) == (255, 3)
    with pytest.raises(VHeatIRError, match="x in 0 to 269"):
        trace_influence(restorer, image, (300, 0))


def test_the_command_saves_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    write_image(tmp_path / "a.png", np.full((40, 50), 90, np.uint8))
    arguments = ["explain", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    model = ["--model", "denoise_gray_small", "--device", "cpu"]
    assert cli.main([*arguments, *model, "--point", "3", "4"]) == 0
    names = ["diffusivity.png", "influence.png", "swinir_windows.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert len(capsys.readouterr().out.splitlines()) == 3
    for name in names:
        with Image.open(tmp_path / "out" / name) as figure:
            assert min(figure.size) > 200
    assert cli.main([*arguments, *model, "--point", "50", "4"]) == 2
    assert "50, 4 is outside the image" in capsys.readouterr().err
    assert cli.main([*arguments, "--model", "auto"]) == 2
    assert "name a model, such as 'photo'" in capsys.readouterr().err


@pytest.mark.usefixtures("zoo_with_mini")
def test_the_papers_network_comes_first(tmp_path: Path) -> None:
    assert model_to_explain() == "denoise_color_s15_mini"
    registry = zoo.REGISTRY
    entries = json.loads(registry.read_text())
    left = [each for each in entries if each["name"] != "denoise_color_s15_mini"]
    registry.write_text(json.dumps(left))
    assert model_to_explain() == "denoise_gray_s15_mini"
    # which explains a photograph in colour too
    rng = np.random.default_rng(0)
    write_image(tmp_path / "a.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
    assert cli.main(["explain", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_without_it_a_model_for_colour_denoising_does() -> None:
    if not any(entry.is_flat for entry in zoo.list_models()):
        assert model_to_explain() == zoo.list_models("denoise_color")[0].name
