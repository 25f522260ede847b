"""Option files: contents, inheritance, overrides and error messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from vheatir.archs import ARCHS, VHeatIR, build_network
from vheatir.data.names import NameList
from vheatir.errors import VHeatIRError
from vheatir.training.options import Options, load_options
from vheatir.training.sections import PhotoOptions, SchedulerOptions, ValOptions

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ROOT / "options"
QUICKSTART = OPTIONS / "quickstart.yml"

# file: task, level, learning rate, iterations, weights to start from
PAPER = {
    "denoise_gray_s15": ("denoise_gray", 15, 2e-4, 1_600_000, None),
    "denoise_gray_s25": ("denoise_gray", 25, 1e-4, 800_000, "denoise_gray_s15"),
    "denoise_gray_s50": ("denoise_gray", 50, 1e-4, 800_000, "denoise_gray_s15"),
    "denoise_color_s15": ("denoise_color", 15, 2e-4, 1_600_000, None),
    "denoise_color_s25": ("denoise_color", 25, 1e-4, 800_000, "denoise_color_s15"),
    "denoise_color_s50": ("denoise_color", 50, 1e-4, 800_000, "denoise_color_s15"),
    "jpeg_q10": ("jpeg_gray", 10, 1e-4, 800_000, "jpeg_q40"),
    "jpeg_q20": ("jpeg_gray", 20, 1e-4, 800_000, "jpeg_q40"),
    "jpeg_q30": ("jpeg_gray", 30, 1e-4, 800_000, "jpeg_q40"),
    "jpeg_q40": ("jpeg_gray", 40, 2e-4, 1_600_000, None),
}
MINI = ("denoise_gray_s15_mini", "denoise_color_s15_mini", "jpeg_q40_mini")
TASK_RANGES = {
    "denoise_gray": (0, 55),
    "denoise_color": (0, 55),
    "jpeg_gray": (5, 95),
    "jpeg_color": (5, 95),
}
ALL_LEVELS = [(task, size) for task in TASK_RANGES for size in ("small", "medium", "large")]
EARLIER_NAMES = ("_fast", "_light", "_base")  # tests/test_renamed.py
EVERY_FILE = sorted(
    path
    for path in (*OPTIONS.glob("*.yml"), *(OPTIONS / "all_levels").glob("*.yml"))
    if not path.stem.endswith(EARLIER_NAMES)
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def message(*force: str, path: Path = QUICKSTART) -> str:
    """Load options that must be rejected; return the error message, which must be one line."""
    with pytest.raises(VHeatIRError) as caught:
        load_options(path, force)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- the files themselves


def test_these_are_the_option_files() -> None:
    expected = {f"{name}.yml" for name in (*PAPER, *MINI)} | {"quickstart.yml"}
    expected |= {f"{task}_{size}.yml" for task, size in ALL_LEVELS}
    expected |= {f"{task}_small_clean.yml" for task in TASK_RANGES}
    expected |= {f"jpeg_{color}_medium_finetune.yml" for color in ("gray", "color")}
    photo = ("small", "small_clean", "medium", "medium_clean", "medium_finetune", "large")
    expected |= {f"photo_{size}.yml" for size in photo}
    assert {path.name for path in EVERY_FILE} == expected


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.stem)
def test_every_file_loads_builds_and_survives_a_dump(path: Path, tmp_path: Path) -> None:
    options = load_options(path)
    with torch.device("meta"):
        build_network({"type": options.network_g.type, **options.network_g.kwargs})
    assert options.name == path.stem
    assert options.model_type == "RestorationModel"
    assert options.datasets.val_sets
    copy = write(tmp_path / "copy.yml", yaml.safe_dump(options.dump()))
    assert load_options(copy) == options
    # the first lines say what it is and how to run it
    assert f"-opt {path.relative_to(ROOT)}" in path.read_text(encoding="utf-8")


def assert_clean(options: Options) -> None:
    """Check that only photographs whose licence allows any use are trained and validated on."""
    excluded = NameList(options.datasets.train.exclude)
    validation = options.datasets.val_sets["val"]
    assert "bsd400/97017.jpg" in excluded and "cid22_861443.jpg" in excluded
    assert [Path(entry).name for entry in validation.include] == ["heldout_clean_licence.txt"]
    assert validation.limit is None


@pytest.mark.parametrize("task", TASK_RANGES)
def test_the_clean_files_differ_in_the_photographs_alone(task: str) -> None:
    folder = OPTIONS / "all_levels"
    plain, clean = (load_options(folder / f"{task}_small{end}.yml") for end in ("", "_clean"))
    assert_clean(clean)
    for key in ("task", "level", "network_g", "train"):
        assert getattr(clean, key) == getattr(plain, key)
    for key in ("jpeg_grid", "subsampling", "double_compression", "gt_size"):
        assert getattr(clean.datasets.train, key) == getattr(plain.datasets.train, key)


@pytest.mark.parametrize("color", ["gray", "color"])
def test_fine_tuning_starts_from_the_released_weights_and_adds_graphics(color: str) -> None:
    folder, name = OPTIONS / "all_levels", f"jpeg_{color}_medium"
    plain, tuned = (load_options(folder / f"{name}{end}.yml") for end in ("", "_finetune"))
    assert tuned.network_g == plain.network_g and tuned.level == plain.level
    released = ROOT / "vheatir" / "zoo" / f"{name}.safetensors"
    assert tuned.path.pretrain_network_g == str(released)
    photographs, graphics = tuned.datasets.train_sets.values()
    assert (photographs.weight, graphics.weight) == (0.85, 0.15)
    for key in ("jpeg_grid", "subsampling", "double_compression"):
        assert getattr(photographs, key) == getattr(graphics, key)
        assert getattr(photographs, key) == getattr(plain.datasets.train, key)


def test_photo_medium_starts_from_the_denoiser_and_adds_graphics() -> None:
    folder = OPTIONS / "all_levels"
    plain, tuned = (load_options(folder / f"photo_medium{end}.yml") for end in ("", "_finetune"))
    assert tuned.network_g == plain.network_g
    photographs, graphics = tuned.datasets.train_sets.values()
    assert (photographs.weight, graphics.weight) == (0.95, 0.05)
    assert photographs.photo == graphics.photo == plain.datasets.train.photo
    # The folded denoiser, which the first command of the file writes, has the same network.
    denoiser = load_options(folder / "denoise_color_medium.yml").network_g.kwargs
    assert {k: v for k, v in denoiser.items() if k != "level_scale"} == {
        k: v for k, v in tuned.network_g.kwargs.items() if k != "level_scale"
    }


@pytest.mark.parametrize("name", MINI)
def test_the_papers_network_for_cpus(name: str) -> None:
    options, full = (load_options(OPTIONS / f"{n}.yml") for n in (name, name.removesuffix("_mini")))
    assert (options.task, options.level) == (full.task, full.level)
    assert options.datasets.train.jpeg_grid == full.datasets.train.jpeg_grid
    network = options.network_g.kwargs
    assert {**VHeatIR.SIZES["mini"], "mixer": "hco", "norm": "pre"}.items() <= network.items()
    sizes = [(s.until, s.gt_size, s.batch_size) for s in options.stages]
    assert sizes == [(0.5, 64, 8), (1, 96, 8)] and options.train.total_iter == 30_000
    assert_clean(options)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name: str) -> None:
    task, level, lr, iterations, start = PAPER[name]
    options = load_options(OPTIONS / f"{name}.yml")
    train, data = options.train, options.datasets.train
    assert (options.task, options.level) == (task, level)
    assert options.datasets.val_sets["val"].level is None  # measured at the same level
    assert (train.optim_g.type, train.optim_g.lr, train.optim_g.weight_decay) == ("Adam", lr, 0)
    assert train.total_iter == iterations
    assert train.scheduler.type == "MultiStep"
    shares = [milestone / iterations for milestone in train.scheduler.milestones]
    assert shares == [0.5, 0.75, 0.875, 0.9375, 1.0]
    assert train.scheduler.gamma == 0.5
    assert (train.pixel_opt.type, train.pixel_opt.eps) == ("CharbonnierLoss", 1e-9)
    assert train.ema_decay == 0.999
    assert train.grad_clip is None
    assert train.precision == "float32"
    assert (data.gt_size, data.batch_size_per_gpu, train.stages) == (128, 8, None)
    assert data.jpeg_grid == "aligned"
    assert [Path(root).name for root in data.dataroot_gt] == ["DIV2K", "Flickr2K", "BSD500", "WED"]

    channels = 3 if "color" in name else 1
    network = options.network_g.config()
    assert network == {
        "type": "VHeatIR",
        "in_chans": channels,
        "out_chans": channels,
        "embed_dim": 180,
        "depths": [6] * 6,
        "mlp_ratio": 2,
        "fve_size": 16,
        "downscale": 1,
        "img_range": 255.0 if "jpeg" in name else 1.0,
        "mixer": "hco",
        "norm": "pre",
    }

    given = options.path.pretrain_network_g
    if start is None:
        assert given is None
    else:
        assert given is not None
        experiment = load_options(OPTIONS / f"{start}.yml").name
        assert Path(given).parts[-4:-1] == ("experiments", experiment, "models")


@pytest.mark.parametrize(("task", "size"), ALL_LEVELS)
def test_the_recipe_for_all_levels(task: str, size: str) -> None:
    options = load_options(OPTIONS / "all_levels" / f"{task}_{size}.yml")
    train, data = options.train, options.datasets.train
    assert options.task == task
    assert (
        options.level == options.level_range == TASK_RANGES[task] == options.task_info.level_range
    )
    assert train.optim_g.type == "AdamW"
    assert train.optim_g.lr == (5e-4 if size == "large" else 1e-3)
    assert (train.scheduler.type, train.scheduler.lr_min) == ("Cosine", 0)
    assert train.warmup_iter > 0
    assert (train.ema_decay, train.grad_clip, train.precision) == (0.999, 1.0, "auto")
    assert train.stages is not None
    sizes = [stage.gt_size for stage in train.stages] + [data.gt_size]
    assert sizes == sorted(set(sizes))

    # validated on photographs of the same folders, held out from training
    val = options.datasets.val_sets["val"]
    assert val.dataroot_gt == data.dataroot_gt
    assert val.include == data.exclude == [str(ROOT / "options" / "lists" / "heldout.txt")]

    network = build_network(options.network_g.config())
    assert network.takes_level is task.startswith("denoise")
    if task.startswith("jpeg"):
        assert data.jpeg_grid == "half"
        assert data.double_compression == 0.2
        assert data.subsampling == (["4:2:0", "4:4:4"] if task == "jpeg_color" else ["4:2:0"])
    else:
        assert network.level_scale == 255


def test_the_quickstart_needs_no_download_and_ends_in_time() -> None:
    options = load_options(QUICKSTART)
    assert (options.task, options.level) == ("denoise_color", 15)
    assert options.datasets.train.dataroot_gt == ["bundled"]
    assert options.datasets.val_sets["val"].dataroot_gt == ["bundled"]
    assert options.train.max_minutes is not None
    assert options.train.max_minutes <= 4


# --- inheritance


def test_extends_merges_sections_and_replaces_the_rest(tmp_path: Path) -> None:
    write(
        tmp_path / "child.yml",
        f"extends: [{QUICKSTART}, more.yml]\nname: child\ntrain: {{optim_g: {{lr: 1e-5}}}}\n",
    )
    write(tmp_path / "more.yml", "name: more\nnetwork_g: {channels: [8, 16, 24]}\nlevel: 25\n")
    base, child = load_options(QUICKSTART), load_options(tmp_path / "child.yml")
    assert child.name == "child"
    assert child.level == 25
    assert child.network_g.kwargs["channels"] == [8, 16, 24]
    assert child.network_g.kwargs["depths"] == base.network_g.kwargs["depths"]
    assert child.train.optim_g.lr == 1e-5
    assert child.train.optim_g.type == base.train.optim_g.type


def test_extends_may_meet_one_file_twice_but_not_itself(tmp_path: Path) -> None:
    write(tmp_path / "left.yml", f"extends: {QUICKSTART}\n")
    write(tmp_path / "right.yml", f"extends: {QUICKSTART}\n")
    diamond = write(tmp_path / "diamond.yml", "extends: [left.yml, right.yml]\nname: diamond\n")
    assert load_options(diamond).name == "diamond"

    write(tmp_path / "left.yml", "extends: right.yml\n")
    write(tmp_path / "right.yml", "extends: left.yml\n")
    text = message(path=tmp_path / "left.yml")
    assert "circular 'extends': left.yml -> right.yml -> left.yml" in text


def test_missing_files_are_named_with_the_nearest(tmp_path: Path) -> None:
    assert "quickstart.yml" in message(path=OPTIONS / "quickstrat.yml")
    write(tmp_path / "paper.yml", "name: x\n")
    child = write(tmp_path / "child.yml", "extends: papr.yml\n")
    text = message(path=child)
    assert "child.yml" in text and "papr.yml" in text and "did you mean" in text
    assert "paper.yml" in text


def test_a_mistake_is_blamed_on_the_file_it_is_in(tmp_path: Path) -> None:
    write(tmp_path / "parent.yml", f"extends: {QUICKSTART}\ntrain: {{ema_decy: 0.9}}\n")
    child = write(tmp_path / "child.yml", "extends: parent.yml\nname: child\n")
    assert message(path=child).startswith(str(tmp_path / "parent.yml"))


# --- YAML


def test_mappings_merged_twice(tmp_path: Path) -> None:
    text = (
        f"extends: {QUICKSTART}\nname: merged\n"
        "train:\n  optim_g: &adam {type: Adam, lr: 1e-3}\n"
        "  scheduler: &cosine {type: Cosine, lr_min: 0}\n"
        "datasets:\n  train: &set {dataroot_gt: bundled}\n"
        "  val: {<<: *set, name: a}\n  val_2: {<<: *set, name: b}\n"
    )
    options = load_options(write(tmp_path / "merged.yml", text))
    assert [each.name for each in options.datasets.val_sets.values()] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [unclosed", "line"),
        ("name: a\nname: b", "'name' is given twice"),
        ("- a\n- b", "mapping"),
        ("", "mapping"),
        ("name: !!python/object/apply:os.getcwd []", "python"),
        ("name: x\ntrain: &a {optim_g: *a}", "nested too deeply"),
        ("name: x\nlevel: &a [*a]", "nested too deeply"),
        ("name: x\n1: one", "unknown option '1'"),
        ("name: x\n? [a]\n: one", "not valid YAML"),
    ],
)
def test_broken_files_give_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path / "broken.yml", text)
    answer = message(path=path)
    assert expected in answer
    assert "broken.yml" in answer


def test_what_an_alias_shares_can_be_overridden_apart(tmp_path: Path) -> None:
    sets = "datasets: {val: &held_out {limit: 1}, val_2: *held_out}"
    path = write(tmp_path / "alias.yml", f"extends: {QUICKSTART}\n{sets}\n")
    options = load_options(path, ["datasets:val:limit=2"])
    assert [val_set.limit for val_set in options.datasets.val_sets.values()] == [2, 1]


def test_a_file_that_is_no_text_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "photo.yml"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    assert "UTF-8" in message(path=path)


# --- mistakes


@pytest.mark.parametrize(
    ("force", "expected"),
    [
        ("tsak=denoise_gray", "did you mean 'task'"),
        ("trian:total_iter=5", "did you mean 'train'"),
        ("datasets:trian:gt_size=5", "did you mean 'train'"),
        (
            "datasets:train:gt_sise=5",
            "datasets:train: unknown option 'gt_sise': did you mean 'gt_size'",
        ),
        ("datasets:val_2:levl=5", "did you mean 'level'"),
        ("datasets:train:io_backend:typ=disk", "did you mean 'type'"),
        ("train:optim_g:weight_decy=0", "did you mean 'weight_decay'"),
        ("train:stages=[{until: 1, gt_sze: 8, batch_size: 1}]", "did you mean 'gt_size'"),
        ("train:scheduler:lr_mn=0", "did you mean 'lr_min'"),
        ("train:scheduler:eta_min=0", "two names of one thing"),
        ("network_g:chanels=[8]", "network_g: unknown option 'chanels': did you mean 'channels'"),
        ("network_g:type=VHeatIRUnet", "did you mean 'VHeatIRUNet'"),
        ("train:optim_g:type=adamw", "did you mean 'AdamW'"),
        ("task=denoise_colour", "did you mean 'denoise_color'"),
        ("val:metrics=[psnr, sim]", "did you mean 'ssim'"),
        ("device=cdua", "did you mean 'cuda'"),
        ("lr=1e-3", "use train:optim_g:lr"),
        ("train:total_iter=0", "'train:total_iter' is 0"),
        ("train:total_iter=1.5", "'train:total_iter' is 1.5"),
        ("train:total_iter=~", "'train:total_iter' is null"),
        ("train:total_iter=true", "'train:total_iter' is 'true': it must be a valid integer"),
        ("train:warmup_iter=false", "'train:warmup_iter' is 'false'"),
        ("train:grad_clip=true", "'train:grad_clip' is 'true': it must be a valid number"),
        ("train:max_minutes=true", "'train:max_minutes' is 'true'"),
        ("train:optim_g:betas=[true, 0.9]", "'train:optim_g:betas:0' is 'true'"),
        ("train:stages=[{until: true, gt_size: 8, batch_size: 1}]", "until' is 'true'"),
        ("logger:keep_last=true", "'logger:keep_last' is 'true'"),
        ("datasets:train:gt_size=true", "'datasets:train:gt_size' is 'true'"),
        ("datasets:val:level=true", "'datasets:val:level:0' is 'true'"),
        ("num_gpu=true", "'auto' or must be a valid integer"),
        ("val:use_image=false", "use_image: false is for metrics with names"),
        ("train:ema_decay=1", "less than 1"),
        ("train:scheduler={type: MultiStep}", "milestones"),
        ("train:scheduler={type: MultiStep, milestones: [9, 3]}", "ascend"),
        (
            "train:stages=[{until: 1, gt_size: 8, batch_size: 1}, "
            "{until: 0.5, gt_size: 8, batch_size: 1}]",
            "ascend",
        ),
        ("datasets:train=~", "must be a section of options"),
        ("datasets:train:dataroot_gt=[]", "at least 1 item"),
        ("datasets:train:double_compression=1.5", "less than or equal to 1"),
        ("datasets:train:subsampling=[4:1:1]", "4:2:0"),
        ("num_gpu=many", "'auto'"),
        ("level=[55, 0]", "[lowest, highest]"),
        ("level=[1, 2, 3]", "[lowest, highest]"),
        ("level=true", "one number"),
        ("level=300", "0 to 255"),
        ("datasets:val:level=[15, -1]", "0 to 255"),
        ("name=../elsewhere", "plain folder name"),
        ("network_g:depths=[one]", "'network_g:depths:0'"),
        ("network_g:in_chans=1", "have 3 channel(s)"),
        ("extends=other.yml", "inside option files"),
        ("train:total_iter", "section:option=value"),
        ("train::total_iter=3", "section:option=value"),
        ("name:first=x", "is a value, not a section"),
        ("train:optim_g={", "not valid YAML"),
    ],
)
def test_mistakes_give_one_line_with_the_way_out(force: str, expected: str) -> None:
    text = message(force)
    assert expected in text
    assert "--force_yml" in text or "quickstart.yml" in text


def test_null_is_not_set() -> None:
    force = ["manual_seed=~", "val=~", "datasets:val={dataroot_gt: ~}", "datasets:val_2=~",
             "train:ema_decay=~", "train:scheduler=~", "datasets:train:gt_size=~"]  # fmt: skip
    options = load_options(QUICKSTART, force)
    train = options.datasets.train
    assert (options.manual_seed, options.val) == (0, ValOptions())
    assert options.train.ema_decay == 0.999 and options.train.scheduler == SchedulerOptions()
    assert train.gt_size == 128
    assert options.datasets.val_sets["val"].dataroot_gt == train.dataroot_gt
    assert list(options.datasets.val_sets) == ["val"]
    # where it is a value
    assert load_options(QUICKSTART, ["logger:keep_last=~"]).logger.keep_last is None


def test_quality_has_its_own_range() -> None:
    assert "1 to 100" in message("level=0", path=OPTIONS / "jpeg_q10.yml")


def test_a_missing_option_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "bare.yml", "name: bare\ntask: denoise_gray\n")
    text = message(path=path)
    assert "'datasets' is missing" in text
    assert "more)" in text
    assert "'level' is missing" in message("level=~")


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_the_recipe_for_photographs_has_no_level(size: str) -> None:
    path = OPTIONS / "all_levels" / f"photo_{size}.yml"
    options = load_options(path)
    assert (options.task, options.level, options.level_range) == ("photo", None, None)
    network = build_network(options.network_g.config())
    assert not network.takes_level
    assert network.in_chans == network.out_chans == 3
    assert options.datasets.train.exclude == options.datasets.val_sets["val"].include
    # the file lists every parameter with its default value
    assert options.datasets.train.photo == PhotoOptions()
    shown = yaml.safe_load((OPTIONS / "_base" / "photo.yml").read_text(encoding="utf-8"))
    assert set(shown["datasets"]["train"]["photo"]) == set(PhotoOptions.model_fields)


@pytest.mark.parametrize(
    ("force", "expected"),
    [
        ("level=20", "task photo has no level"),
        ("datasets:val:level=20", "task photo has no level"),
        ("datasets:train:photo:jpeg=1.5", "less than or equal to 1"),
        ("datasets:train:photo:quality=[90, 70]", "[lowest, highest]"),
        ("datasets:train:photo:jpg=1", "did you mean 'jpeg'"),
    ],
)
def test_mistakes_in_the_recipe_for_photographs(force: str, expected: str) -> None:
    assert expected in message(force, path=OPTIONS / "all_levels" / "photo_small.yml")


def test_other_networks_arguments_are_refused() -> None:
    assert "unknown option 'channels'" in message("network_g:type=VHeatIR")


# --- overrides


def test_overrides_are_typed_and_applied_in_order() -> None:
    options = load_options(
        QUICKSTART,
        [
            "train:total_iter=7",
            "train:total_iter=9",
            "train:optim_g:lr=1e-5",
            "train:optim_g:betas=[0.8, 0.9]",
            "train:max_minutes=null",
            "train:pixel_opt={type: MSELoss}",
            "datasets:train:cache=false",
            "datasets:train:subsampling=[4:2:0, 4:4:4]",
            "datasets:val_2:level=[15, 25]",
            "level=[0, 55]",
            "num_gpu=2",
            "description='a = b: c'",
        ],
    )
    assert options.train.total_iter == 9
    assert options.train.optim_g.lr == 1e-5
    assert options.train.optim_g.betas == (0.8, 0.9)
    assert options.train.max_minutes is None
    assert options.train.pixel_opt.type == "MSELoss"
    assert options.datasets.train.cache is False
    assert options.datasets.train.subsampling == ["4:2:0", "4:4:4"]
    assert options.datasets.val_sets["val_2"].level == [15, 25]
    assert options.level == (0, 55)
    assert options.network_g.kwargs["level_scale"] == 255
    assert options.num_gpu == 2
    assert options.description == "a = b: c"


@pytest.mark.parametrize(
    "payload",
    [
        "__import__('pathlib').Path('hacked').touch()",
        "!!python/object/apply:os.system ['touch hacked']",
        "!!python/object/new:os.system ['touch hacked']",
    ],
)
@pytest.mark.parametrize("key", ["train:total_iter", "description", "network_g:depths"])
def test_overrides_never_run_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, payload: str
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        options = load_options(QUICKSTART, [f"{key}={payload}"])
    except VHeatIRError:
        pass
    else:
        assert options.description == payload  # kept as plain text
    assert not (tmp_path / "hacked").exists()


def test_one_level_of_a_model_for_all() -> None:
    path = OPTIONS / "all_levels" / "denoise_gray_small.yml"
    narrowed = load_options(path, ["level=15"])
    assert narrowed.level == 15
    assert not build_network(narrowed.network_g.config()).takes_level
    blind = load_options(path, ["network_g:level_scale=null"])
    assert not build_network(blind.network_g.config()).takes_level


# --- paths


def test_relative_folders_are_below_the_repository_if_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = load_options(
        "options/quickstart.yml",
        ["datasets:train:dataroot_gt=[options, mine, bundled]", f"datasets:val:dataroot_gt={ROOT}"],
    )
    assert options.datasets.train.dataroot_gt == [
        str(ROOT / "options"),
        str(tmp_path / "mine"),
        "bundled",
    ]
    assert options.datasets.val_sets["val"].dataroot_gt == [str(ROOT)]
    start = load_options(QUICKSTART, ["path:pretrain_network_g=weights.safetensors"])
    assert start.path.pretrain_network_g == str(tmp_path / "weights.safetensors")


def test_options_cannot_be_changed_by_accident() -> None:
    options = load_options(QUICKSTART)
    with pytest.raises(ValueError, match="frozen"):
        options.train.total_iter = 5  # type: ignore[misc]


def test_reading_options_needs_no_basicsr() -> None:
    code = (
        "import sys; from vheatir.training.options import Options, load_options; "
        f"load_options({str(QUICKSTART)!r}); "
        "sys.exit(bool({'basicsr', 'torchvision'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_any_network_of_the_package_can_be_named() -> None:
    for name, network in ARCHS.items():
        options = load_options(QUICKSTART, [f"network_g={{type: {name}}}"])
        assert type(build_network(options.network_g.config())) is network
