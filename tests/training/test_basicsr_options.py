"""Option files of BasicSR, HAT and NAFNet: what their keys mean here, what is ignored, refused.

The files below have the keys and values of those projects; paths, run size and network are other.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.training.options import load_options
from vheatir.training.schedule import learning_rate, progress
from vheatir.training.schema import Options

TINY = {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "downscale": 2}
# BasicSR's own network, with the keys of its file.
TINY_SWINIR = {
    "type": "SwinIR", "upscale": 1, "in_chans": 3, "img_size": 16, "window_size": 8,
    "img_range": 1.0, "depths": [2], "embed_dim": 8, "num_heads": [2], "mlp_ratio": 2,
    "upsampler": "", "resi_connection": "1conv",
}  # fmt: skip

# BasicSR's options/train/SwinIR/train_SwinIR_SRx2_scratch.yml at scale 1.
SWINIR = """
name: train_SwinIR_scratch
model_type: SwinIRModel
scale: 1
num_gpu: auto
manual_seed: 0
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    meta_info_file: {folder}/meta_info.txt
    filename_tmpl: '{{}}'
    io_backend: {{type: disk}}
    gt_size: 16
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 6
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    io_backend: {{type: disk}}
network_g: {network}
path: {{pretrain_network_g: ~, strict_load_g: true, resume_state: ~}}
train:
  ema_decay: 0.999
  optim_g: {{type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99]}}
  scheduler: {{type: MultiStepLR, milestones: [250000, 400000, 450000, 475000], gamma: 0.5}}
  total_iter: 500000
  warmup_iter: -1
  pixel_opt: {{type: L1Loss, loss_weight: 1.0, reduction: mean}}
val:
  val_freq: !!float 5e3
  save_img: false
  metrics:
    psnr: {{type: calculate_psnr, crop_border: 2, test_y_channel: false}}
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb: {{project: ~, resume_id: ~}}
dist_params: {{backend: nccl, port: 29500}}
"""

# NAFNet's options/train/SIDD/NAFNet-width32.yml.
NAFNET = """
name: NAFNet-SIDD-width32
model_type: ImageRestorationModel
scale: 1
num_gpu: 8
manual_seed: 10
datasets:
  train:
    name: SIDD
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    filename_tmpl: '{{}}'
    io_backend: {{type: disk}}
    gt_size: 16
    use_flip: false
    use_rot: false
    use_shuffle: true
    num_worker_per_gpu: 4
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val:
    name: SIDD_val
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    io_backend: {{type: disk}}
network_g: {network}
path: {{pretrain_network_g: ~, strict_load_g: true, resume_state: ~}}
train:
  optim_g: {{type: AdamW, lr: !!float 1e-3, weight_decay: 0., betas: [0.9, 0.9]}}
  scheduler: {{type: TrueCosineAnnealingLR, T_max: 200000, eta_min: !!float 1e-7}}
  total_iter: 200000
  warmup_iter: -1
  pixel_opt: {{type: PSNRLoss, loss_weight: 1, reduction: mean}}
val:
  val_freq: !!float 2e4
  save_img: false
  use_image: false
  metrics:
    psnr: {{type: calculate_psnr, crop_border: 0, test_y_channel: false}}
    ssim: {{type: calculate_ssim, crop_border: 0, test_y_channel: false}}
logger:
  print_freq: 200
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb: {{project: ~, resume_id: ~}}
dist_params: {{backend: nccl, port: 29500}}
"""

# Every key of HAT's options/train/*.yml: those of its training, and those of Real-HAT's.
HAT = """
name: train_HAT_from_scratch
model_type: HATModel
scale: 1
num_gpu: auto
manual_seed: 0
l1_gt_usm: True
gt_usm: True
percep_gt_usm: True
gan_gt_usm: False
resize_prob: [0.2, 0.7, 0.1]
resize_range: [0.15, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]
second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]
resize_range2: [0.3, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]
gt_size: 256
queue_size: 180
datasets:
  train:
    name: DF2K
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    meta_info_file: {folder}/meta_info.txt
    io_backend: {{type: disk}}
    blur_kernel_size: 21
    kernel_list: [iso, aniso]
    kernel_prob: [0.45, 0.25]
    sinc_prob: 0.1
    blur_sigma: [0.2, 3]
    betag_range: [0.5, 4]
    betap_range: [1, 2]
    blur_kernel_size2: 21
    kernel_list2: [iso, aniso]
    kernel_prob2: [0.45, 0.25]
    sinc_prob2: 0.1
    blur_sigma2: [0.2, 1.5]
    betag_range2: [0.5, 4]
    betap_range2: [1, 2]
    final_sinc_prob: 0.8
    gt_size: 16
    use_hflip: True
    use_rot: False
    use_shuffle: true
    num_worker_per_gpu: 6
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val_1:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    io_backend: {{type: disk}}
  val_2:
    name: Set14
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    io_backend: {{type: disk}}
network_g: {network}
network_d: {{type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 64, skip_connection: True}}
path: {{pretrain_network_g: ~, param_key_g: params_ema, strict_load_g: true, resume_state: ~}}
train:
  ema_decay: 0.999
  optim_g: {{type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99]}}
  optim_d: {{type: Adam, lr: !!float 1e-4, weight_decay: 0, betas: [0.9, 0.99]}}
  scheduler: {{type: MultiStepLR, milestones: [300000, 500000, 650000], gamma: 0.5}}
  total_iter: 800000
  warmup_iter: -1
  pixel_opt: {{type: L1Loss, loss_weight: 1.0, reduction: mean}}
  perceptual_opt: {{type: PerceptualLoss, layer_weights: {{conv1_2: 0.1}}, vgg_type: vgg19}}
  gan_opt: {{type: GANLoss, gan_type: vanilla, loss_weight: !!float 1e-1}}
  net_d_iters: 1
  net_d_init_iters: 0
val:
  val_freq: !!float 5e3
  save_img: false
  pbar: False
  suffix: ~
  metrics:
    psnr: {{type: calculate_psnr, crop_border: 2, test_y_channel: true, better: higher}}
    ssim: {{type: calculate_ssim, crop_border: 2, test_y_channel: true, better: higher}}
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb: {{project: ~, resume_id: ~}}
dist_params: {{backend: nccl, port: 29500}}
tile: {{tile_size: 32, tile_pad: 4}}
"""

FILES = {"SwinIR": SWINIR, "NAFNet": NAFNET, "HAT": HAT}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "abc":
        clean = rng.integers(256, size=(9, 8, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        noisy = clean.astype(int) + rng.integers(-20, 21, size=clean.shape)
        write_image(tmp_path / "gt" / f"{name}.png", clean)
        write_image(tmp_path / "lq" / f"{name}.png", noisy.clip(0, 255).astype(np.uint8))
    (tmp_path / "meta_info.txt").write_text("a.png (36,32,3)\nb.png (36,32,3)\n")
    return tmp_path


def write(folder: Path, which: str) -> Path:
    network = TINY_SWINIR if which == "SwinIR" else TINY
    network = yaml.safe_dump(network, default_flow_style=True, width=1000).strip()
    file = folder / f"{which}.yml"
    file.write_text(FILES[which].format(folder=folder, network=network))
    return file


def load(folder: Path, which: str, *force: str) -> Options:
    return load_options(write(folder, which), force)


def message(folder: Path, which: str, *force: str) -> str:
    with pytest.raises(VHeatIRError) as caught:
        load(folder, which, *force)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- what the keys mean


def test_nafnets_file(folder: Path) -> None:
    options = load(folder, "NAFNet")
    assert options.task is None and options.level is None and options.num_gpu == 8
    train = options.train
    assert (train.scheduler.type, train.scheduler.T_max) == ("Cosine", 200_000)
    assert train.scheduler.lr_min == 1e-7
    # NAFNet has no average of the weights, and clips at 0.01 unless use_grad_clip is false
    assert train.ema_decay == 0 and train.grad_clip == 0.01
    assert load(folder, "NAFNet", "train:use_grad_clip=false").train.grad_clip is None
    assert options.datasets.train.augment is False
    assert options.val.val_freq == 20_000 and options.logger.save_checkpoint_freq == 5000
    assert options.val.use_image is False
    assert list(options.val.named_metrics or {}) == ["psnr", "ssim"]
    assert options.ignored == ()


def test_basicsrs_file(folder: Path) -> None:
    options = load(folder, "SwinIR")
    data = options.datasets.train
    assert data.augment is True and data.filename_tmpl == "{}"
    assert data.meta_info_file == str(folder / "meta_info.txt")
    assert options.train.ema_decay == 0.999 and options.train.grad_clip is None
    assert options.val.named_metrics is not None
    assert options.val.named_metrics["psnr"].crop_border == 2
    assert options.ignored == ()
    # what BasicSR does where the file says nothing
    file = folder / "SwinIR.yml"
    file.write_text(
        file.read_text().replace("  ema_decay: 0.999\n", "").replace(", gamma: 0.5", "")
    )
    bare = load_options(file)
    assert bare.train.ema_decay == 0 and bare.train.scheduler.gamma == 0.1
    bare = load_options(
        file, ["train:pixel_opt={type: CharbonnierLoss}", "train:optim_g={type: AdamW, lr: 1e-3}"]
    )
    assert bare.train.pixel_opt.config()["eps"] == 1e-12  # BasicSR's
    default = inspect.signature(torch.optim.AdamW).parameters["weight_decay"].default
    assert bare.train.optim_g.weight_decay == default == 0.01


def test_every_key_of_hats_files(folder: Path) -> None:
    options = load(folder, "HAT")
    assert list(options.datasets.val_sets) == ["val_1", "val_2"]
    assert options.datasets.train.augment == "flip"
    assert options.path.param_key_g == "params_ema"
    assert options.val.tile == 32 + 2 * 4
    named = {"network_d", "train:gan_opt", "datasets:train:kernel_list2", "resize_range"}
    assert named <= set(options.ignored)
    # nothing else is lost: what is not ignored is in the options
    assert not any(
        key.startswith(("val", "logger", "path", "network_g")) for key in options.ignored
    )


@pytest.mark.parametrize("model", ["SRModel", "SwinIRModel", "HATModel", "RestorationModel"])
def test_model_types(folder: Path, model: str) -> None:
    assert load(folder, "SwinIR", f"model_type={model}").model_type == model


@pytest.mark.parametrize(
    ("flags", "augment"),
    [
        ({"use_hflip": True, "use_rot": True}, True),
        ({"use_hflip": True, "use_rot": False}, "flip"),
        ({"use_flip": False, "use_rot": True}, "rotate"),
        ({"use_hflip": False, "use_rot": False}, False),
        ({}, True),
    ],
    ids=str,
)
def test_flips(folder: Path, flags: dict[str, bool], augment: object) -> None:
    data = yaml.safe_load(write(folder, "SwinIR").read_text())
    for name in ("use_hflip", "use_rot"):
        del data["datasets"]["train"][name]
    data["datasets"]["train"].update(flags)
    file = folder / "flips.yml"
    file.write_text(yaml.safe_dump(data))
    assert load_options(file).datasets.train.augment == augment


@pytest.mark.parametrize("which", FILES)
def test_resolved_options_load_as_the_same(folder: Path, which: str) -> None:
    options = load(folder, which)
    file = folder / "resolved.yml"
    file.write_text(yaml.safe_dump(options.dump()))
    again = load_options(file)
    assert again.dump() == options.dump() and again.ignored == ()


def test_what_is_ignored_is_named_and_null_is_nothing(folder: Path) -> None:
    force = (
        "datasets:train:prefetch_mode=cpu",
        "val:grids=true",
        "datasets:train:use_shuffle=false",
    )
    assert load(folder, "NAFNet", *force).ignored == (
        "datasets:train:prefetch_mode",
        "val:grids",
        "datasets:train:use_shuffle",
    )


def test_null_options_have_the_defaults_there(folder: Path) -> None:
    nulls = ("use_flip", "use_rot", "use_shuffle", "io_backend", "dataset_enlarge_ratio")
    force = [f"datasets:train:{name}=~" for name in nulls]
    force += ["train:use_grad_clip=~", "train:ema_decay=~", "train:mixup=~", "manual_seed=~",
              "train:scheduler:eta_min=~", "datasets:val:dataroot_gt=~",
              "datasets:val:dataroot_lq=~"]  # fmt: skip
    options = load(folder, "NAFNet", *force)
    assert options.datasets.train.augment is True and options.ignored == ()
    assert (options.train.grad_clip, options.train.ema_decay) == (0.01, 0)
    assert options.train.scheduler.lr_min == 0 and options.manual_seed == 0
    val = options.datasets.val_sets["val"]
    assert (val.dataroot_gt, val.dataroot_lq) == ([f"{folder}/gt"], [f"{folder}/lq"])
    gamma = load(folder, "SwinIR", "train:scheduler:gamma=~").train.scheduler.gamma
    assert gamma == 0.1
    # without the section val, its tile is not lost
    assert load(folder, "HAT", "val=~", "tile:tile_pad=~").val.tile == 32


# --- mistakes


@pytest.mark.parametrize(
    ("which", "force", "expected"),
    [
        ("HAT", "scale=4", "option 'scale' is 4: it must be 1: vHeatIR restores at scale 1"),
        ("HAT", "datasets:train:use_hfilp=true", "did you mean 'use_hflip'"),
        ("NAFNet", "train:scheduler:eta_mn=0", "did you mean 'eta_min'"),
        ("NAFNet", "train:use_grad_clip=flase", "it must be true or false"),
        ("NAFNet", "train:scheduler:eta_min=x", "option 'train:scheduler:eta_min' is 'x'"),
        ("NAFNet", "train:scheduler:lr_min=0", "two names of one thing"),
        ("HAT", "tile:tile_sze=9", "tile: unknown option 'tile_sze': did you mean 'tile_size'"),
        ("HAT", "tile:tile_size=4", "option 'tile:tile_size' is 12"),
        ("HAT", "tile:tile_size=x", "it must have two numbers"),
        ("HAT", "val:tile=64", "two names of one thing"),
        ("NAFNet", "train:mixup=true", "option 'train:mixup': mixup is not available"),
        ("NAFNet", "datasets:train:use_flip=2", "option 'datasets:train:use_flip' is 2"),
        ("NAFNet", "datasets:train:augment=true", "two names of one thing"),
        ("NAFNet", "datasets:train:dataroot_lq=null", "dataroot_lq is missing"),
        ("NAFNet", "datasets:train:dataroot_lq=[a, b]", "has 2 folder(s), dataroot_gt 1"),
        ("NAFNet", "datasets:train:filename_tmpl=x", "must contain {}"),
        ("NAFNet", "datasets:train:io_backend:type=lmdb", "does not end in .lmdb"),
        ("NAFNet", "datasets:val:io_backend:type=lmdb", "does not end in .lmdb"),
        ("NAFNet", "datasets:train:recolor=0.5", "recolor is for a RestorationDataset"),
        ("NAFNet", "datasets:val:level=15", "level is for a RestorationDataset"),
        ("NAFNet", "datasets:val:type=RestorationDataset", "dataroot_lq is for pairs"),
        ("NAFNet", "datasets:val={dataroot_gt: x}", "option 'task' is missing: add it"),
        ("NAFNet", "level=15", "'level' goes with a 'task'"),
        ("NAFNet", "network_g:level_scale=255", "which the pairs of datasets:train do not have"),
        ("NAFNet", "datasets:val:color=y", "datasets:val:color is y"),
        ("NAFNet", "val:metrics:psnr:crop_boder=1", "val:metrics:psnr: unknown option"),
        (
            "NAFNet",
            "val:metrics:psnr:crop_border=-1",
            "option 'val:metrics:psnr:crop_border' is -1",
        ),
        ("NAFNet", "val:metrics:fid={type: calculate_fid}", "option 'val:metrics:fid:type'"),
        ("NAFNet", "datasets:train_2={dataroot_gt: x}", "option 'task' is missing: add it"),
        ("NAFNet", "datasets:train_2={gt_sze: 2, dataroot_gt: x}", "did you mean 'gt_size'"),
        ("NAFNet", "datasets:train_2:weight=1", "'datasets:train_2:dataroot_gt' is missing"),
        (
            "NAFNet",
            "datasets:train_2={dataroot_gt: x, gt_size: 9}",
            "train_2:gt_size is taken from train",
        ),
        ("NAFNet", "datasets:tain_2={}", "did you mean 'train_2'"),
        ("NAFNet", "train:scheduler={type: CosineAnnealingRestartLR}", "needs periods"),
        (
            "NAFNet",
            "train:scheduler={type: CosineAnnealingRestartLR, periods: [9, 9]}",
            "must have the same length",
        ),
        (
            "NAFNet",
            "train:scheduler={type: CosineAnnealingRestartLR, periods: [9]}",
            "end after 9 iterations, before total_iter 200000",
        ),
        ("SwinIR", "model_type=SwnIRModel", "did you mean 'SwinIRModel'"),
        ("SwinIR", "gt_size=64", "use datasets:train:gt_size"),
    ],
)
def test_one_line(folder: Path, which: str, force: str, expected: str) -> None:
    text = message(folder, which, force)
    assert expected in text
    # blamed on where it was written
    assert "--force_yml: " in text or f"{which}.yml" in text


def test_level_of_pairs_beside_made_damage(folder: Path) -> None:
    made = f"datasets:train_2={{dataroot_gt: {folder}/gt}}"
    force = ("task=denoise_color", "level=[0, 55]", made)
    assert "which the pairs of datasets:train do not have" in message(folder, "NAFNet", *force)
    options = load(folder, "NAFNet", *force, "network_g:level_scale=null")
    assert options.level == (0, 55) and not options.datasets.train_sets["train_2"].is_paired


def test_color_of_pairs(folder: Path) -> None:
    luma = load(folder, "NAFNet", "datasets:train:color=y", "datasets:val:color=y")
    assert luma.task_info.color == "luma"
    gray = load(folder, "NAFNet", "network_g:in_chans=1")
    assert gray.task_info.color == "gray"
    for options in (luma, gray):
        assert options.network_g.kwargs["in_chans"] == options.network_g.kwargs["out_chans"] == 1


# --- schedules and metrics against the real ones


def rates(scheduler: dict[str, Any], total: int, **train: Any) -> list[float]:
    from vheatir.training.sections import TrainOptions

    values = {"total_iter": total, "optim_g": {"lr": 2e-4}, "scheduler": scheduler, **train}
    options = TrainOptions.model_validate(values)
    return [learning_rate(options, i, progress(options, i, 0.0)) for i in range(total)]


@pytest.mark.parametrize("end", [40, 100])
def test_cosine_is_that_of_torch_also_beyond_its_end(end: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=end, eta_min=1e-7)
    scheduler = {"type": "Cosine", "lr_min": 1e-7} | ({"T_max": end} if end < 100 else {})
    for rate in rates(scheduler, 100, warmup_iter=-1):
        assert rate == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        reference.step()


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="BasicSR is the reference")
@pytest.mark.parametrize("warmup", [-1, 7])
def test_cosine_with_restarts_is_basicsrs(warmup: int) -> None:
    from vheatir.basicsr_import import import_basicsr

    import_basicsr()
    from basicsr.models.base_model import BaseModel
    from basicsr.models.lr_scheduler import CosineAnnealingRestartLR

    settings = {"periods": [10, 25, 30], "restart_weights": [1, 0.5, 0.25]}
    model = BaseModel({"num_gpu": 0, "is_train": True})
    model.optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)]
    model.schedulers = [CosineAnnealingRestartLR(model.optimizers[0], eta_min=1e-7, **settings)]
    ours = rates({"type": "CosineRestart", "lr_min": 1e-7, **settings}, 65, warmup_iter=warmup)
    for iteration, rate in enumerate(ours, start=1):
        model.optimizers[0].step()
        model.update_learning_rate(iteration, warmup_iter=warmup)
        assert rate == pytest.approx(model.get_current_learning_rate()[0], rel=1e-9)


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="BasicSR is the reference")
@pytest.mark.parametrize("border", [0, 3])
@pytest.mark.parametrize("luma", [False, True])
@pytest.mark.parametrize("gray", [False, True])
def test_metrics_are_basicsrs(border: int, luma: bool, gray: bool) -> None:
    from vheatir.basicsr_import import import_basicsr

    import_basicsr()
    from basicsr.metrics import calculate_metric

    from vheatir.training.sections import MetricOptions
    from vheatir.training.validation import measure_named

    rng = np.random.default_rng(1)
    clean = rng.integers(256, size=(9, 8) if gray else (9, 8, 3)).astype(np.uint8)
    clean = clean.repeat(4, 0).repeat(4, 1)
    noise = rng.integers(-30, 31, size=clean.shape)
    noisy = (clean.astype(int) + noise).clip(0, 255).astype(np.uint8)
    for kind in ("calculate_psnr", "calculate_ssim"):
        options = {"type": kind, "crop_border": border, "test_y_channel": luma}
        bgr = {"img": noisy[..., ::-1], "img2": clean[..., ::-1]}
        pair = {"img": noisy, "img2": clean} if gray else bgr
        expected = calculate_metric(pair, {**options, "better": "higher"})
        assert measure_named(MetricOptions(**options), noisy, clean) == pytest.approx(
            expected, abs=1e-4
        )


# --- runs


def run(folder: Path, which: str, *force: str) -> list[str]:
    """Train for a few iterations; return the log."""
    from vheatir.train import main

    size = [
        f"path:experiments_root={folder}/runs", "device=cpu", "train:total_iter=4",
        "datasets:train:num_worker_per_gpu=0", "val:val_freq=2", "logger:print_freq=2",
        "logger:use_tb_logger=false", "logger:save_checkpoint_freq=2",
    ]  # fmt: skip
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("vheatir").addHandler(handler)
    try:
        arguments = ["-opt", str(write(folder, which)), "--force_yml", *size, *force]
        assert main(arguments) == 0
    finally:
        logging.getLogger("vheatir").removeHandler(handler)
    return lines


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="training needs basicsr")
@pytest.mark.parametrize("which", FILES)
def test_the_file_trains(folder: Path, which: str) -> None:
    from vheatir import Restorer
    from vheatir.image_io import read_image

    lines = run(folder, which)
    ignored = [line for line in lines if line.startswith("ignored, without a meaning here: ")]
    assert len(ignored) == (which == "HAT")
    assert not ignored or "train:gan_opt" in ignored[0]
    scores = [line for line in lines if line.startswith("validation at 4")]
    assert len(scores) == (2 if which == "HAT" else 1)
    assert all("psnr" in line and "(best " in line for line in scores)
    (home,) = (folder / "runs").iterdir()
    table = (home / "results" / "table.md").read_text()
    assert "nan" not in table
    restorer = Restorer(home / "models" / f"{home.name}.safetensors", "cpu")
    assert restorer.info["task"] is None and restorer.info["level"] is None
    image = read_image(folder / "lq" / "a.png")
    assert restorer.restore(image).shape == image.shape


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="training needs basicsr")
def test_print_network_logs_its_modules(folder: Path) -> None:
    assert not any("(conv_first)" in line for line in run(folder, "NAFNet"))
    assert any("(conv_first)" in line for line in run(folder, "NAFNet", "print_network=true"))


def test_hats_tiles_are_one_option(folder: Path) -> None:
    assert load(folder, "HAT", "tile=null").val.tile is None
    assert load(folder, "HAT", "tile={tile_size: 48}").val.tile == 48


def test_param_key_names_the_entry(tmp_path: Path) -> None:
    from vheatir.weights import read_state_dict

    path = tmp_path / "net.pth"
    torch.save({"params": {"w": torch.zeros(1)}, "params_ema": {"w": torch.ones(1)}}, path)
    assert read_state_dict(path)["w"] == 1
    assert read_state_dict(path, "params")["w"] == 0
    assert read_state_dict(path, "params_ema")["w"] == 1
    torch.save({"params": {"w": torch.zeros(1)}}, path)
    assert read_state_dict(path, "params_ema")["w"] == 0  # as in BasicSR
    torch.save({"other": {"w": torch.zeros(1)}}, path)
    with pytest.raises(VHeatIRError, match="no entry 'params': .*give one of other"):
        read_state_dict(path, "params")


def test_translation_leaves_its_input_and_our_own_files_alone() -> None:
    from vheatir.training.basicsr_options import translate

    data = {"model_type": "HATModel", "train": {"scheduler": {"eta_min": 1}}, "val": {"grids": 1}}
    before = copy.deepcopy(data)
    translate(data)
    assert data == before
    own = {"task": "photo", "datasets": {"train": {"augment": False}}, "train": {"total_iter": 1}}
    assert translate(own).data == own
