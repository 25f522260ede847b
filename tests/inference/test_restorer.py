"""The Restorer: output of the same type as the input, and clear errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image, write_image
from vheatir.inference import Restorer
from vheatir.weights import save_weights


def make_restorer(network: nn.Module, **info: Any) -> Restorer:
    return Restorer(SimpleNamespace(network=network.eval(), info=info), device="cpu")  # type: ignore[arg-type]


def tiny_network(in_chans: int, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net = build_network(
        {"type": "VHeatIR", "in_chans": in_chans, "embed_dim": 8, "depths": [1], **options}
    )
    for parameter in net.parameters():  # the initial network is the identity
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net


class Plain(nn.Module):
    """A network that applies a formula."""

    takes_level = False

    def __init__(self, channels: int, formula: Any = lambda x: x) -> None:
        super().__init__()
        self.in_chans = self.out_chans = channels
        self.formula = formula

    def forward(self, x: Tensor, level: float | Tensor | None = None) -> Tensor:
        return self.formula(x)


class Recorder(Plain):
    """Return the input and record the levels."""

    takes_level = True

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.levels: list[Any] = []

    def forward(self, x: Tensor, level: float | Tensor | None = None) -> Tensor:
        self.levels.append(level)
        return x


RESTORERS = {
    "gray": make_restorer(tiny_network(1, downscale=2), task="denoise_gray"),
    "rgb": make_restorer(tiny_network(3), task="denoise_color"),
    "luma": make_restorer(tiny_network(1), task="jpeg_gray"),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(RESTORERS)))
def test_output_is_like_input(data: st.DataObject, kind: str) -> None:
    height, width = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    gray = [(), (1,), (2,)]
    channels = data.draw(st.sampled_from(gray if kind == "gray" else [*gray, (3,), (4,)]))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float16", "float32", "float64"]))
    rng = np.random.default_rng(height * 100 + width)
    image: np.ndarray[Any, Any] = rng.uniform(-0.2, 1.2, (height, width, *channels))
    if dtype.startswith("uint"):
        image = np.rint(image.clip(0, 1) * np.iinfo(dtype).max)
    image = image.astype(dtype)
    if data.draw(st.booleans()):
        image = image[::-1, ::-1]
    before = image.copy()
    tile = data.draw(st.sampled_from(["auto", None, 32]))
    ensemble = data.draw(st.booleans()) and max(height, width) < 24

    out = RESTORERS[kind].restore(image, tile=tile, self_ensemble=ensemble)

    assert out.shape == image.shape
    assert out.dtype == image.dtype
    assert np.isfinite(out).all()
    white = np.iinfo(dtype).max if dtype.startswith("uint") else 1
    colors = slice(0, 1 if len(channels) and channels[0] == 2 else 3)
    plain = out[..., colors] if channels else out
    assert plain.min() >= 0 and plain.max() <= white
    if channels in [(2,), (4,)]:
        np.testing.assert_array_equal(out[..., -1], image[..., -1])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 1), (7, 9, 2), (7, 9, 3), (7, 9, 4)])
def test_the_identity_returns_every_bit(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = rng.random(shape).astype(np.float32)
    if dtype != "float32":
        image = rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True, dtype=dtype)
    out = make_restorer(Plain(3)).restore(image)
    np.testing.assert_allclose(out, image, rtol=0, atol=0 if dtype != "float32" else 1e-7)


@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5), (3, 6, 5), (4, 6, 5), (2, 3, 6, 5)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensors(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    image = torch.rand(shape)
    image = (image * 255).to(dtype) if dtype == torch.uint8 else image.to(dtype)
    out = make_restorer(Plain(3)).restore(image)
    assert out.dtype == dtype
    torch.testing.assert_close(out, image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_file_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    out = make_restorer(Plain(3)).restore(tmp_path / "phone.png")
    np.testing.assert_array_equal(out, np.rot90(pixels, 2 if orientation == 3 else -1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pil_images_keep_their_mode_and_metadata(mode: str) -> None:
    shape = {"L": (5, 8), "LA": (5, 8, 2), "RGB": (5, 8, 3), "RGBA": (5, 8, 4), "I;16": (5, 8)}
    dtype = np.uint16 if mode == "I;16" else np.uint8
    array = np.random.default_rng(0).integers(0, 255, shape[mode], dtype=dtype)
    image = Image.fromarray(array)
    assert image.mode == mode
    image.info["icc_profile"] = b"profile"
    out = make_restorer(Plain(3)).restore(image)
    assert (out.mode, out.size) == (mode, image.size)
    assert out.info["icc_profile"] == b"profile"
    np.testing.assert_array_equal(np.asarray(out), array)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4"])
@pytest.mark.parametrize("strength", [100, 50, 0])
def test_the_byte_order_is_kept(dtype: str, strength: int) -> None:
    image = np.random.default_rng(0).integers(0, 2, (5, 8, 3)).astype(dtype)
    out = make_restorer(Plain(3)).restore(image, strength=strength)
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(out, image)


def test_inks_come_back_as_rgb_without_their_profile() -> None:
    image = Image.new("CMYK", (40, 40), (10, 20, 30, 0))
    image.info["icc_profile"] = b"a profile for four inks"
    out = make_restorer(Plain(3)).restore(image)
    assert out.mode == "RGB" and "icc_profile" not in out.info


def test_palettes_come_back_as_colours() -> None:
    rgb = Image.fromarray(np.full((4, 6, 3), (10, 200, 30), np.uint8))
    out = make_restorer(Plain(3)).restore(rgb.convert("P", palette=Image.Palette.ADAPTIVE))
    assert out.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(out), np.asarray(rgb))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_path_gives_an_array(tmp_path: Path, dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7, 4), dtype=dtype)
    write_image(tmp_path / "bildé.png", image)
    restorer = make_restorer(Plain(3, lambda x: 1 - x))
    out = restorer.restore(tmp_path / "bildé.png")
    np.testing.assert_array_equal(out[..., :3], np.iinfo(dtype).max - image[..., :3])
    np.testing.assert_array_equal(out[..., 3], image[..., 3])
    np.testing.assert_array_equal(out, restorer.restore(str(tmp_path / "bildé.png")))


def test_gray_by_a_colour_model_is_the_mean_of_its_channels() -> None:
    weights = torch.tensor([0.2, 0.5, 0.8]).reshape(1, 3, 1, 1)
    image = np.random.default_rng(0).random((4, 5), dtype=np.float32)
    out = make_restorer(Plain(3, lambda x: x * weights)).restore(image)
    np.testing.assert_allclose(out, image * 0.5, atol=1e-6)


def test_colour_by_a_luma_model_keeps_its_chroma() -> None:
    from skimage.color import rgb2ycbcr

    image = np.random.default_rng(0).uniform(0.3, 0.7, (4, 5, 3))
    luma = make_restorer(Plain(1, lambda y: y + 0.05), task="jpeg_gray")
    before, after = rgb2ycbcr(image), rgb2ycbcr(luma.restore(image))
    np.testing.assert_allclose(after[..., 0], before[..., 0] + 0.05 * 255, atol=1e-3)
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-3)


def test_the_luma_model_sees_matlabs_luma() -> None:
    from skimage.color import rgb2ycbcr

    seen: list[Tensor] = []
    image = np.random.default_rng(0).random((4, 5, 3))
    make_restorer(Plain(1, lambda y: seen.append(y) or y), task="jpeg_gray").restore(image)
    np.testing.assert_allclose(seen[0][0, 0] * 255, rgb2ycbcr(image)[..., 0], atol=1e-3)


def test_colour_by_a_gray_denoiser_is_refused() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0, 0] = 1  # gray except for one pixel
    with pytest.raises(VHeatIRError, match="'denoise_color' model"):
        RESTORERS["gray"].restore(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), "not an image"),
        (np.zeros(4, np.uint8), "not an image"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.full((4, 4), 200, np.float32), "divide"),
        (np.full((4, 4), np.nan, np.float32), "NaN"),
        (torch.zeros(3, 0, 4), "empty"),
        (torch.zeros(5, 4, 4), "not an image"),
        (torch.zeros(4, 4, dtype=torch.int64), "int64"),
        ([[1, 2]], "NumPy array"),
        (Path("missing.png"), "missing.png"),
    ],
)
def test_invalid_images_are_refused(image: Any, message: str) -> None:
    with pytest.raises(VHeatIRError, match=message) as caught:
        make_restorer(Plain(1)).restore(image)
    assert "\n" not in str(caught.value)


def test_levels_reach_the_network() -> None:
    net = Recorder(1)
    restorer = make_restorer(net, task="denoise_gray", level=[0, 55])
    image = np.zeros((6, 7), np.float32)
    result = restorer.restore_detailed(image, 15)
    assert (net.levels, result.level, result.estimated) == ([15.0], 15.0, False)
    level_map = np.arange(42, dtype=np.float32).reshape(6, 7)
    assert restorer.restore_detailed(image, level_map).level == pytest.approx(20.5)
    torch.testing.assert_close(net.levels[1], torch.from_numpy(level_map)[None, None])
    restorer.restore(torch.zeros(2, 1, 6, 7), torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(net.levels[2], torch.tensor([3.0, 4.0]))


def test_level_none_is_estimated_and_held_to_the_trained_range() -> None:
    noise = np.random.default_rng(0).normal(0.5, 20 / 255, (128, 128)).astype(np.float32)
    net = Recorder(1)
    result = make_restorer(net, task="denoise_gray", level=[0, 55]).restore_detailed(noise)
    assert result.estimated
    assert result.level == net.levels[0] == pytest.approx(20, abs=1)
    narrow = make_restorer(net, task="denoise_gray", level=[0, 10])
    assert narrow.restore_detailed(noise).level == 10


@pytest.mark.parametrize("level", [-1, 56, math.nan, math.inf, "much", np.full((6, 7), 99.0)])
def test_levels_outside_the_training_are_refused(level: Any) -> None:
    restorer = make_restorer(Recorder(1), task="denoise_gray", level=[0, 55])
    with pytest.raises(VHeatIRError, match=r"0 to 55|give a number"):
        restorer.restore(np.zeros((6, 7), np.float32), level)


def test_level_maps_must_fit() -> None:
    restorer = make_restorer(Recorder(1), task="denoise_gray", level=[0, 55])
    with pytest.raises(VHeatIRError, match=r"\(6, 7\)"):
        restorer.restore(np.zeros((6, 7), np.float32), np.ones((7, 6)))


def test_blind_models_take_no_level_but_check_it() -> None:
    image = np.zeros((6, 7), np.float32)
    fixed = make_restorer(Plain(1), task="denoise_gray", level=15)
    assert fixed.restore_detailed(image).level is None
    assert fixed.restore_detailed(image, 15).level is None
    with pytest.raises(VHeatIRError, match="trained for sigma 15"):
        fixed.restore(image, 25)


def test_non_finite_pixels_are_retried_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    net = Plain(1)
    # 3e4 * 4 overflows float16, so that inf - inf is NaN; float32 does not overflow.
    net.conv = nn.Conv2d(1, 1, 1, bias=False)
    net.conv.weight.data.fill_(1.2e5 / 2)
    net.formula = lambda x: (net.conv(x + 1) - net.conv(x + 1)).float() + 0.5
    loaded: Any = SimpleNamespace(network=net, info={})
    restorer = Restorer(loaded, "cpu", precision="float16")
    result = restorer.restore_detailed(np.full((8, 8), 0.9, np.float32))
    assert result.retried and "float32" in caplog.text
    np.testing.assert_array_equal(result.image, np.full((8, 8), 0.5, np.float32))
    # flat white is never run in float16
    assert not restorer.restore_detailed(np.ones((8, 8), np.float32)).retried


@pytest.mark.parametrize(("native", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_follows_the_processor_and_says_so(
    native: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vheatir.inference.restorer.has_native_bf16", lambda device: native)
    loaded: Any = SimpleNamespace(network=Plain(1), info={})
    with caplog.at_level("INFO"):
        restorer = Restorer(loaded, "cpu", precision="auto")
    assert restorer.precision == chosen and f"precision auto: {chosen}" in caplog.text
    assert restorer.restore(np.zeros((8, 8), np.uint8)).shape == (8, 8)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_pixels_are_never_returned(value: float) -> None:
    restorer = make_restorer(Plain(1, lambda x: x + value))
    with pytest.raises(VHeatIRError, match="NaN or infinite"):
        restorer.restore(np.zeros((8, 8), np.uint8))


def test_auto_tile_halves_when_memory_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    def at_most_130(x: Tensor) -> Tensor:
        if x.shape[-1] > 130 or x.shape[-2] > 130:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    restorer = make_restorer(Plain(1, at_most_130))
    image = np.random.default_rng(0).integers(0, 255, (300, 500), dtype=np.uint8)
    result = restorer.restore_detailed(image)
    assert result.tile is not None and result.tile <= 130
    np.testing.assert_array_equal(result.image, image)
    with pytest.raises(VHeatIRError, match="smaller tile"):
        restorer.restore(image, tile=256)


def test_other_errors_are_not_swallowed() -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        make_restorer(Plain(1, broken)).restore(np.zeros((8, 8), np.uint8))


def test_large_images_are_tiled_and_small_ones_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vheatir.inference.restorer.available_memory", lambda device: None)
    restorer = make_restorer(Plain(1))
    assert restorer.restore_detailed(np.zeros((1000, 1000), np.uint8)).tile is None
    assert restorer.restore_detailed(np.zeros((1000, 2500), np.uint8)).tile == 512


def test_missing_devices_and_models() -> None:
    with pytest.raises(VHeatIRError, match="not available here"):
        Restorer(SimpleNamespace(network=Plain(1), info={}), "cuda:77")  # type: ignore[arg-type]
    with pytest.raises(VHeatIRError):
        Restorer("nowhere.safetensors")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """A blind colour model of the task without a level, untrained, from its file."""
    torch.manual_seed(0)
    net = build_network(
        {"type": "VHeatIRUNet", "channels": [8, 8], "depths": [1, 1], "mixers": ["none", "none"]}
    )
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("weights") / "photo_tiny.safetensors"
    save_weights(path, net, {"task": "photo", "level": None, "name": "photo_tiny"})
    return Restorer(path, "cpu")


#: Converters from a uint8 RGBA image (16, 20, 4) to every image type.
KINDS: dict[str, Callable[[np.ndarray[Any, Any], Path], Any]] = {
    "gray": lambda image, _: image[..., 0].copy(),
    "gray, one channel": lambda image, _: image[..., :1].copy(),
    "gray and alpha": lambda image, _: image[..., 2:].copy(),
    "gray as RGB": lambda image, _: image[..., [0, 0, 0]],
    "gray as RGBA": lambda image, _: image[..., [0, 0, 0, 3]],
    "RGB": lambda image, _: image[..., :3].copy(),
    "RGBA": lambda image, _: image,
    "RGBA, 16 bits": lambda image, _: image.astype(np.uint16) * 257,
    "gray, 16 bits": lambda image, _: image[..., 0].astype(np.uint16) * 257,
    "gray as RGB, 16 bits": lambda image, _: image[..., [0, 0, 0]].astype(np.uint16) * 257,
    "float16": lambda image, _: (image / 255).astype(np.float16),
    "float32": lambda image, _: (image[..., :3] / 255).astype(np.float32),
    "float64": lambda image, _: image[..., 0] / 255,
    "PIL L": lambda image, _: Image.fromarray(image[..., 0]),
    "PIL LA": lambda image, _: Image.fromarray(image[..., 2:].copy()),
    "PIL RGB": lambda image, _: Image.fromarray(image[..., :3]),
    "PIL RGBA": lambda image, _: Image.fromarray(image),
    "PIL I;16": lambda image, _: Image.fromarray(image[..., 0].astype(np.uint16) * 257),
    "PIL F": lambda image, _: Image.fromarray((image[..., 0] / 255).astype(np.float32)),
    "path": lambda image, folder: _written(folder / "a.png", image),
    "tensor": lambda image, _: torch.from_numpy(image[..., 0]),
    "tensor, RGBA": lambda image, _: torch.from_numpy(image).permute(2, 0, 1),
    "tensor, bfloat16": lambda image, _: torch.from_numpy(image / 255).bfloat16()[..., 0],
    "tensor, batch": lambda image, _: torch.from_numpy(
        np.stack([image / 255, image[..., [1, 1, 1, 3]] / 255])
    ).permute(0, 3, 1, 2),
}  # fmt: skip


def _written(path: Path, image: np.ndarray[Any, Any]) -> Path:
    write_image(path, image)
    return path


def _array(image: Any) -> np.ndarray[Any, Any]:
    """Return the pixels, channels last."""
    if isinstance(image, Path):
        return read_image(image)
    if isinstance(image, Tensor):
        array = image.double().numpy()
        return array if image.ndim == 2 else np.moveaxis(array, -3, -1)
    return np.asarray(image)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_strength_of_each_kind_of_image(kind: str, photo: Restorer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (16, 20, 4), dtype=np.uint8)
    image = KINDS[kind](pixels, tmp_path)
    before, whole = _array(image).astype(np.float64), photo.restore(image)
    last = 0.0
    for strength in (0, 40, (70, 70), 100, (100.0, 100), 140):
        result = photo.restore(image, strength=strength)
        assert type(result) is type(whole)
        if isinstance(whole, Image.Image):
            assert result.mode == whole.mode
        else:
            assert result.dtype == whole.dtype
        out = _array(result).astype(np.float64)
        assert out.shape == before.shape
        if strength == 0:
            np.testing.assert_array_equal(out, before)
        if strength in (100, (100, 100)):
            np.testing.assert_array_equal(out, _array(whole))
        distance = float(np.linalg.norm(out - before))
        assert distance >= last
        last = distance
        if before.ndim > 2 and before.shape[-1] in (2, 4):
            np.testing.assert_array_equal(out[..., -1], before[..., -1])
        if "gray as" in kind:
            np.testing.assert_array_equal(out[..., 0], out[..., 1])
            np.testing.assert_array_equal(out[..., 0], out[..., 2])
    assert last > 0


def test_luma_and_chroma_have_separate_strengths(photo: Restorer) -> None:
    weights = np.array([0.299, 0.587, 0.114])
    image = np.random.default_rng(0).uniform(0.3, 0.7, (16, 20, 3))
    whole = photo.restore(image)
    chroma = photo.restore(image, strength=(0, 100))
    np.testing.assert_allclose(chroma @ weights, image @ weights, atol=1e-6)
    np.testing.assert_allclose(np.diff(chroma), np.diff(whole), atol=1e-6)
    luma = photo.restore_detailed(image, strength=(100, 0)).image
    np.testing.assert_allclose(luma @ weights, whole @ weights, atol=1e-6)
    gray = image[..., 0]
    np.testing.assert_array_equal(photo.restore(gray, strength=(100, 0)), photo.restore(gray))
    np.testing.assert_array_equal(photo.restore(gray, strength=(0, 100)), gray)


def test_a_luma_model_has_strength_too() -> None:
    image = np.random.default_rng(0).integers(60, 200, (16, 20, 3), dtype=np.uint8)
    luma = make_restorer(Plain(1, lambda y: 0.05 + 0.9 * y), task="jpeg_gray")
    whole = luma.restore(image)
    for strength, expected in [(0, image), (100, whole), ((100, 0), whole), ((0, 100), image)]:
        out = luma.restore(image, strength=strength).astype(int)
        # An equal change of all channels has no chroma, up to rounding.
        assert np.abs(out - expected).max() <= (0 if strength in (0, 100) else 1)


@pytest.mark.parametrize("strength", [-1, 151, math.nan, "half", (1, 2, 3), (50, 200)])
def test_a_strength_out_of_range_is_refused_before_any_work(strength: Any) -> None:
    net = Recorder(1)
    with pytest.raises(VHeatIRError, match="0 .*150") as caught:
        make_restorer(net, task="denoise_gray").restore(np.zeros((9, 9)), 15, strength=strength)
    assert "\n" not in str(caught.value) and net.levels == []


def test_a_task_without_a_level_refuses_one(photo: Restorer) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    result = photo.restore_detailed(image)
    assert (result.level, result.estimated) == (None, False)
    assert photo.level_range is None and not photo.takes_level
    for level in (20, 0, np.full((16, 16), 20.0)):
        with pytest.raises(VHeatIRError, match="'photo' takes no level") as caught:
            photo.restore(image, level=level)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_gray_through_the_photo_model(dtype: str, photo: Restorer) -> None:
    """Gray images give the same result in every storage format."""
    rng = np.random.default_rng(0)
    gray = rng.random((17, 22)).astype(np.float32)
    alpha = rng.random((17, 22)).astype(np.float32)
    if dtype != "float32":
        gray, alpha = (np.rint(each * np.iinfo(dtype).max).astype(dtype) for each in (gray, alpha))
    plain = photo.restore(gray)
    assert not np.array_equal(plain, gray)
    for channels in ([gray] * 3, [gray, alpha], [gray, gray, gray, alpha]):
        image = np.stack(channels, axis=2)
        out = photo.restore(image)
        for index in range(3 if len(channels) > 2 else 1):
            np.testing.assert_array_equal(out[..., index], plain)
        if len(channels) in (2, 4):
            np.testing.assert_array_equal(out[..., -1], alpha)


@pytest.mark.parametrize("kind", ["gray", "luma"])
def test_gray_stored_as_rgb_is_gray_to_a_gray_model(kind: str) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (12, 14), dtype=np.uint8)
    out = RESTORERS[kind].restore(np.dstack([gray] * 3))
    np.testing.assert_array_equal(out, np.dstack([RESTORERS[kind].restore(gray)] * 3))
