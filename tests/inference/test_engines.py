"""Many images: in threads, in shards, after an interruption, and on Ray."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vheatir import cli
from vheatir.archs import build_network
from vheatir.hub import save_pretrained
from vheatir.image_io import read_image, write_image
from vheatir.inference import jobs as jobs_module
from vheatir.inference.jobs import Runner, Settings, plan
from vheatir.inference.manifest import Manifest
from vheatir.inference.ray_engine import _gpu_share, run_ray
from vheatir.weights import LoadedModel, load_weights, save_weights

NAMES = [f"{index:02}.png" for index in range(16)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A gray model that brightens by 20 of 255."""
    net = build_network({"type": "VHeatIR", "in_chans": 1, "embed_dim": 8, "depths": [1]})
    for parameter in net.conv_last.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    net.conv_last.bias.data.fill_(20 / 255)  # type: ignore[union-attr]
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, net, {"task": "denoise_gray", "level": [0, 55], "name": "tiny"})
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, name in enumerate(NAMES):
        write_image(tmp_path / "in" / name, np.full((24, 24), 10 * value, np.uint8))
    return tmp_path


@pytest.fixture
def run(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*options: str, out: str = "out") -> tuple[int, str]:
        where = [str(folder / "in"), "-o", str(folder / out)]
        common = ["--model", model, "--device", "cpu"]
        return cli.main(["restore", *where, *common, *options]), capsys.readouterr().err

    return call


def assert_restored(folder: Path, names: list[str]) -> None:
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(names)
    for name in names:
        expected = min(10 * NAMES.index(name) + 20, 255)
        assert np.abs(read_image(folder / name).astype(int) - expected).max() <= 1


def test_several_at_a_time_give_the_same(folder: Path, run: Any) -> None:
    (folder / "in/bad.png").write_bytes(b"nothing")
    threads = torch.get_num_threads()
    status, said = run("--jobs", "3")
    assert status == 1 and "16 restored, 1 failed" in said and "bad.png: failed" in said
    assert_restored(folder / "out", NAMES)
    assert torch.get_num_threads() == threads


def test_shards_cover_all_images(folder: Path, run: Any) -> None:
    seen: list[str] = []
    for index in range(1, 6):
        status, _ = run("--shard", f"{index}/5", "--task", "denoise", out=f"out{index}")
        names = sorted(path.name for path in (folder / f"out{index}").glob("*"))
        assert status == 0 and names == NAMES[index - 1 :: 5]
        seen += names
    assert sorted(seen) == NAMES


@pytest.mark.parametrize("shard", ["0/4", "5/4", "3", "a/b", "1/0"])
def test_impossible_shards_are_refused(run: Any, shard: str) -> None:
    with pytest.raises(SystemExit) as leave:
        run("--shard", shard)
    assert leave.value.code == 2


def test_resume_does_what_is_left_and_trusts_no_name(folder: Path, run: Any) -> None:
    assert run("--resume", "--shard", "1/2")[0] == 0
    # An unrelated file with the right name must not be replaced.
    (folder / "out/01.png").write_bytes(b"precious")
    status, said = run("--resume")
    assert status == 1 and "7 restored, 8 already done, 1 skipped" in said
    assert (folder / "out/01.png").read_bytes() == b"precious"
    (folder / "out/01.png").unlink()
    (folder / "out/02.png").unlink()
    status, said = run("--resume")
    assert status == 0 and "2 restored, 14 already done" in said
    assert_restored(folder / "out", NAMES)
    # A changed source or other settings: not done.
    write_image(folder / "in/05.png", np.full((24, 24), 50, np.uint8)[:20])
    assert "1 restored, 15 already done" in run("--resume")[1]
    assert read_image(folder / "out/05.png").shape == (20, 24)
    assert "16 restored" in run("--resume", "--level", "10", "--task", "denoise")[1]


def test_resume_keeps_a_file_that_appears_after_a_failure(folder: Path, run: Any) -> None:
    (folder / "in/03.png").write_bytes(b"broken")
    assert "15 restored, 1 failed" in run("--resume")[1]
    write_image(folder / "in/03.png", np.full((24, 24), 30, np.uint8))  # repaired
    (folder / "out/03.png").write_bytes(b"precious")
    status, said = run("--resume")
    assert status == 1 and "0 restored, 15 already done, 1 skipped" in said
    assert (folder / "out/03.png").read_bytes() == b"precious"
    (folder / "out/03.png").unlink()
    assert "1 restored, 15 already done" in run("--resume")[1]
    # But its own result may be replaced, also after a failure that left it there.
    (folder / "in/03.png").write_bytes(b"broken again")
    assert "15 already done, 1 failed" in run("--resume")[1]
    write_image(folder / "in/03.png", np.full((24, 24), 30, np.uint8)[:20])
    assert "1 restored, 15 already done" in run("--resume")[1]
    assert read_image(folder / "out/03.png").shape == (20, 24)


def test_the_latest_of_the_records_of_several_files_counts(folder: Path, run: Any) -> None:
    assert "16 restored" in run("--resume")[1]
    half = ("--resume", "--strength", "50")
    assert "16 restored" in run(*half, "--shard", "1/1")[1]
    assert "16 already done" in run(*half, "--shard", "1/1")[1]
    assert "16 already done" in run(*half)[1]
    # Now the files have half the strength.
    assert "16 restored" in run("--resume")[1]
    assert_restored(folder / "out", NAMES)
    assert "16 already done" in run("--resume", "--shard", "1/1")[1]


def test_records_of_earlier_versions_count_but_as_the_oldest(folder: Path, run: Any) -> None:
    assert run("--resume")[0] == 0
    path = folder / "out/.vheatir-restored.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        del record["run"]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert "16 already done" in run("--resume")[1]
    assert "16 restored" in run("--resume", "--shard", "1/1", "--strength", "50")[1]
    assert "16 already done" in run("--resume", "--strength", "50")[1]


@pytest.mark.reliability
def test_a_crash_between_image_and_record_is_repaired(folder: Path, run: Any, model: str) -> None:
    settings = Settings(model=model, device="cpu")
    jobs = plan([str(folder / "in")], str(folder / "out"))
    manifest = Manifest(folder / "out", settings)
    manifest.begin(jobs[0])  # then the image is written, and the process crashes
    (folder / "out/00.png").write_bytes((folder / "in/00.png").read_bytes())
    manifest.close()
    record = folder / "out/.vheatir-restored.jsonl"
    record.write_bytes(record.read_bytes() + b'{"target": "01.png", "state": "do')
    status, said = run("--resume")
    assert status == 0 and "16 restored" in said
    assert_restored(folder / "out", NAMES)
    assert "0 restored, 16 already done" in run("--resume")[1]


def parent_of(process: int) -> int:
    lines = (Path("/proc") / str(process) / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("PPid")).split()[1])


def workers_of(driver: int) -> list[int]:
    """Return Ray Data's actors: children of the node manager, itself a child of the driver."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                named = (entry / "cmdline").read_bytes().startswith(b"ray::MapWorker")
                if named and parent_of(parent_of(int(entry.name))) == driver:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended in the meantime
    return sorted(found)


@pytest.mark.parametrize(("gpus", "workers", "share"), [(8, 5, 1), (2, 4, 0.5), (3, 4, 0.5)])
def test_each_gpu_has_as_many_workers_as_needed(gpus: int, workers: int, share: float) -> None:
    assert _gpu_share(gpus, workers) == share


@pytest.mark.reliability
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
@pytest.mark.filterwarnings("ignore")  # from Ray itself
def test_ray_loses_nothing_when_a_worker_is_killed(folder: Path, model: str) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'vheatir[ray]'")
    (folder / "in/bad.png").write_bytes(b"nothing")
    settings = Settings(model=model, device="cpu")
    jobs = plan([str(folder / "in")], str(folder / "out"))
    root = str(Path(cli.__file__).parents[1])
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )  # fmt: skip
    try:
        outcomes = []
        for outcome in run_ray(settings, jobs, 2):
            outcomes.append(outcome)
            if len(outcomes) == 5:
                workers = workers_of(os.getpid())
                assert len(workers) == 2
                os.kill(workers[0], signal.SIGKILL)
    finally:
        ray.shutdown()
    assert len(outcomes) == len(jobs)
    states = {outcome.job.name.rpartition("/")[2]: outcome.state for outcome in outcomes}
    assert states == {**dict.fromkeys(NAMES, "restored"), "bad.png": "failed"}
    assert_restored(folder / "out", NAMES)


def test_resume_with_a_file_that_is_gone(folder: Path, run: Any) -> None:
    assert run("--resume")[0] == 0
    (folder / "in/03.png").unlink()
    (folder / "in/03.png").symlink_to(folder / "nowhere.png")
    status, said = run("--resume")
    assert status == 1 and "03.png: failed: cannot be opened: No such file" in said
    assert "15 already done, 1 failed" in said


def test_resume_on_a_full_disk_fails_image_by_image(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Manifest, "begin", full)
    status, said = run("--resume")
    assert status == 1 and "00.png: failed: No space left on device" in said and "16 failed" in said


def test_without_a_model_no_file_of_the_working_directory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def settings() -> str:
        with contextlib.closing(Manifest(tmp_path / "out", Settings())) as manifest:
            return manifest._settings

    before = settings()
    (tmp_path / "config.json").write_text("{}")  # of something else
    assert settings() == before


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_resume_with_other_weights_of_the_same_name(
    folder: Path, run: Any, model: str, tmp_path: Path, kind: str
) -> None:
    own = tmp_path / "own"
    info = {"task": "denoise_gray", "level": [0, 55], "name": "tiny"}

    def save(loaded: LoadedModel) -> None:
        if kind == "folder":
            save_pretrained(loaded, own)
        else:
            save_weights(own, loaded.network, info)

    loaded = load_weights(model)
    own = own if kind == "folder" else own.with_suffix(".safetensors")
    save(loaded)
    assert "16 restored" in run("--resume", "--model", str(own))[1]
    assert "16 already done" in run("--resume", "--model", str(own))[1]
    loaded.network.conv_last.bias.data.fill_(0)  # type: ignore[union-attr]
    save(loaded)
    assert "16 restored" in run("--resume", "--model", str(own))[1]
    assert read_image(folder / "out/05.png").max() <= 51


@pytest.mark.parametrize(
    "shortage",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_a_shortage_of_memory_fails_one_image(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, shortage: Exception
) -> None:
    encode = jobs_module.encode_photograph

    def short_once(pixels: Any, *rest: Any) -> bytes:
        if pixels.shape == (20, 24):
            raise shortage
        return encode(pixels, *rest)

    write_image(folder / "in/05.png", np.full((20, 24), 50, np.uint8))
    monkeypatch.setattr(jobs_module, "encode_photograph", short_once)
    status, said = run()
    assert status == 1 and "15 restored, 1 failed" in said
    assert "05.png: failed: not enough memory: " in said


def test_other_errors_are_not_hidden(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(jobs_module, "encode_photograph", broken)
    runner = Runner(Settings(model=model, device="cpu"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        runner.attempt(plan([str(folder / "in/00.png")], str(folder / "out"))[0])
