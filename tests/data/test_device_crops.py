from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from vheatir.data.device_crops import _DRAW_BLOCK, DeviceCrops, ImagePool
from vheatir.data.restoration_dataset import RestorationDataset
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange
from vheatir.image_io import write_image
from vheatir.tasks import get_task

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["rgb", "gray"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    folder: Path = tmp_path_factory.mktemp("clean")
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (40, 61, 3)), ("b.png", (70, 32, 3)), ("c.png", (16, 16, 3))):
        write_image(folder / name, rng.integers(256, size=shape, dtype=np.uint8))
    return ImageSource([folder], request.param)


def crops(source: ImageSource, batch: int = 8, recolor: float = 0.0, **options: int) -> DeviceCrops:
    task = "denoise_color" if source.color == "rgb" else "denoise_gray"
    what = DegradationRange(get_task(task), 5, 55)
    data = RestorationDataset(source, 16, 3, what, recolor=recolor)
    return DeviceCrops(data, ImagePool(source, CPU), batch, **options)


def test_crops_come_from_the_images_in_all_orientations(source: ImageSource) -> None:
    images = [source[i] for i in range(len(source))]
    where: dict[bytes, tuple[int, int]] = {}
    for number, image in enumerate(images):
        for top, left in itertools.product(range(image.shape[0] - 15), range(image.shape[1] - 15)):
            square = image[top : top + 16, left : left + 16]
            for code in range(8):
                turned = np.rot90(square if code < 4 else square[:, ::-1], code)
                where[np.ascontiguousarray(turned).tobytes()] = (number, code)
    seen, codes = [0] * 3, [0] * 8
    for batch in itertools.islice(crops(source, 64), 40):
        pixels = (batch["gt"] * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for square in pixels if source.color == "rgb" else pixels[..., 0]:
            number, code = where[np.ascontiguousarray(square).tobytes()]
            seen[number] += 1
            codes[code] += 1
    total = sum(codes)
    assert sum((c - total / 8) ** 2 / (total / 8) for c in codes) < 24.3  # 99.9 % of chi-squared
    areas = np.array([image.shape[0] * image.shape[1] for image in images])
    assert np.allclose(np.array(seen) / total, areas / areas.sum(), atol=0.04)


def test_without_augmentation_crops_stay_upright(source: ImageSource) -> None:
    generator = torch.Generator().manual_seed(0)
    pool = ImagePool(source, CPU)
    first, down, right = pool.draw(64, 16, generator, augment=False)
    assert set(right.tolist()) == {pool.channels}
    assert set(down.tolist()) <= {w * pool.channels for w in (61, 32, 16)}
    assert pool.cut(first, down, right, 16).shape == (64, pool.channels, 16, 16)


def test_stream_can_be_entered_anywhere(source: ImageSource) -> None:
    # crosses into the next block of draws, with a batch that straddles the border
    batch = 96
    whole = list(itertools.islice(crops(source, batch), _DRAW_BLOCK // batch + 3))
    late = list(itertools.islice(crops(source, batch, start=9 * batch), len(whole) - 9))
    for one, other in zip(whole[9:], late, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("lq", "gt", "level"))
    assert not torch.equal(whole[0]["gt"], whole[1]["gt"])


def test_processes_share_one_stream(source: ImageSource) -> None:
    whole = itertools.islice(crops(source, 8), 4)
    ranks = [itertools.islice(crops(source, 4, rank=r, world_size=2), 4) for r in (0, 1)]
    for batch, low, high in zip(whole, *ranks, strict=True):
        for key in ("lq", "gt", "level"):
            assert torch.equal(batch[key], torch.cat([low[key], high[key]]))


def test_noise_has_its_level(source: ImageSource) -> None:
    levels = []
    for batch in itertools.islice(crops(source, 32), 20):
        noise = (batch["lq"] - batch["gt"]) * 255
        scale = noise.flatten(1).std(dim=1) / batch["level"]
        assert torch.allclose(scale, torch.ones(32), atol=0.2)
        levels += batch["level"].tolist()
    assert 5 <= min(levels) < 8 and 52 < max(levels) <= 55


def test_some_crops_are_of_other_colours(source: ImageSource) -> None:
    plain, changed = crops(source, 256).batch(0), crops(source, 256, recolor=0.5).batch(0)
    same = (plain["gt"] == changed["gt"]).flatten(1).all(dim=1)
    if source.color == "gray":
        assert same.all()
        return
    assert 0.35 < same.float().mean() < 0.65
    noise = (changed["lq"] - changed["gt"]) * 255
    assert torch.allclose(noise, (plain["lq"] - plain["gt"]) * 255, atol=1e-3)
