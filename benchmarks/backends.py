"""Speed of released models in ONNX Runtime and OpenVINO against PyTorch, on the CPU.

``python benchmarks/backends.py --out results/backends`` runs every program and precision in turns
on one noisy photograph, whole, and writes ``backends.json``, ``.csv`` and ``.md``. A time is the
median over the rounds; the speed is the median over the rounds of PyTorch's time in float32 over
this one. Each result's PSNR against the clean photograph stands beside that of PyTorch in float32.

PyTorch runs as in ``Restorer``, with bfloat16 by autocast. The other two run the file of ``vheatir
export``, for images of any size and, as "fixed size", for this size alone. OpenVINO has bfloat16 by
its precision hint. int8 is ONNX Runtime's static quantisation of the layers with weights,
calibrated on bundled photographs; OpenVINO runs the same file. bfloat16 and int8 are measured where
the processor has instructions for them. Needs ``onnx``, ``onnxscript`` and ``onnxruntime``;
``openvino`` is left out if it is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import report
from vheatir.bundled import heldout_photographs, training_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.export.graph import to_onnx
from vheatir.export.openvino_backend import import_openvino
from vheatir.export.source import Source, open_source
from vheatir.hardware import has_native_bf16
from vheatir.inference.tiled import restore_tensor
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import Task, get_task
from vheatir.zoo import list_models

MODELS = ("photo_small_clean", "denoise_color_small", "denoise_color_medium", "jpeg_gray_small")
PRECISIONS = ("float32", "bfloat16", "int8")
PYTORCH, ONNX_RUNTIME, OPENVINO = "PyTorch", "ONNX Runtime", "OpenVINO"
FIXED = ", fixed size"
#: Levels of the degradation, by kind of task.
LEVELS = {"denoise": 25.0, "jpeg": 30.0}
_CALIBRATION_SIDE, _CALIBRATION_CROPS = 128, 4  # pixels; crops per photograph
_PAUSE = 0.1  # seconds between runs: the threads of ONNX Runtime spin for a while after one

_Array = NDArray[Any]
#: Runs a network on (1, C, H, W), float32.
Run = Callable[[_Array], _Array]


@dataclass
class Measurement:
    """One program and precision, with one model, size and number of threads.

    Attributes:
        seconds: median of ``times``.
        speed: median over the rounds of PyTorch's float32 time over this one.
        psnr: of the result in 8 bits against the clean photograph, in dB.
        psnr_float32: that of PyTorch in float32.
        times: seconds of each round.
    """

    model: str
    side: int
    threads: int
    program: str
    precision: str
    seconds: float = 0.0
    speed: float = 0.0
    psnr: float = 0.0
    psnr_float32: float = 0.0
    times: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Exported:
    """A model with its ONNX files: float32 and, if it is measured, int8."""

    source: Source
    task: Task
    files: dict[str, Path]

    @property
    def level(self) -> float | None:
        """The level to run the network with."""
        return LEVELS[self.task.kind] if self.source.takes_level else None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--models", default=",".join(MODELS), help="released models (default: %(default)s)")
    add("--sizes", default="256,1024", help="sides in pixels (default: %(default)s)")
    add("--threads", default="1,2", help="numbers of threads (default: %(default)s)")
    add("--rounds", type=int, default=7, help="timed rounds after a warm-up (default: %(default)s)")
    add("--precisions", help=f"any of {', '.join(PRECISIONS)} (default: what the CPU has)")
    add("--no-fixed", action="store_true", help="leave out the graphs for one size")
    add("--out", type=Path, default=Path("results/backends"), help="output folder")
    return parser.parse_args(arguments)


def choose_precisions(text: str | None) -> list[str]:
    """Return the precisions to measure; by default those that the processor has."""
    if text is not None:
        for name in text.split(","):
            if name not in PRECISIONS:
                raise unknown_name("precision", name, PRECISIONS)
        return [name for name in PRECISIONS if name in text.split(",") or name == "float32"]
    info = Path("/proc/cpuinfo")
    features = set(info.read_text().split()) if info.is_file() else set()
    has = {
        "float32": True,
        "bfloat16": has_native_bf16(torch.device("cpu")),
        "int8": bool(features & {"avx512_vnni", "avx_vnni", "amx_int8"}),
    }
    return [name for name in PRECISIONS if has[name]]


def photograph(task: Task, side: int) -> tuple[_Array, _Array]:
    """Return a clean photograph (side, side[, 3]), ``uint8``, and it degraded, (1, C, side, side).

    It is continued by reflection where it is smaller.
    """
    clean = to_color_mode(heldout_photographs()["coffee"], task.color)
    missing = [(0, max(0, side - length)) for length in clean.shape[:2]]
    clean = np.pad(clean, missing + [(0, 0)] * (clean.ndim - 2), mode="symmetric")[:side, :side]
    return clean, as_input(degrade_for_benchmark(clean, task, LEVELS.get(task.kind)))


def as_input(image: _Array) -> _Array:
    """Return an image (H, W[, C]) as (1, C, H, W), contiguous."""
    return np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)[None])


def feeds(x: _Array, level: float | None) -> dict[str, _Array]:
    """Return the inputs of an exported file."""
    if level is None:
        return {"input": x}
    sigma = np.full((len(x), 1, *x.shape[2:]), level / 255, np.float32)
    return {"input": x, "sigma": sigma}


def export(name: str, folder: Path, precisions: Sequence[str]) -> Exported:
    """Export a model to ``folder``, in float32 and, if wanted, in int8."""
    source = open_source(name)
    exported = Exported(source, get_task(source.task.name if source.task else ""), {})
    exported.files["float32"] = folder / f"{name}.onnx"
    exported.files["float32"].write_bytes(to_onnx(source))
    if "int8" in precisions:
        exported.files["int8"] = folder / f"{name}.int8.onnx"
        quantise(exported)
    return exported


def quantise(exported: Exported) -> None:
    """Write the int8 form of an exported file.

    Convolutions and products with weights are quantised, per channel; the products with cosine
    matrices stay in float32.
    """
    import onnx
    from onnxruntime import quantization

    task, level = exported.task, exported.level

    class Photographs(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.crops = self.read()

        def read(self) -> Iterator[dict[str, _Array]]:
            rng = np.random.default_rng(0)
            for image in training_photographs().values():
                clean = to_color_mode(image, task.color)
                for _ in range(_CALIBRATION_CROPS):
                    y, x = (int(rng.integers(n - _CALIBRATION_SIDE)) for n in clean.shape[:2])
                    crop = clean[y : y + _CALIBRATION_SIDE, x : x + _CALIBRATION_SIDE]
                    yield feeds(
                        as_input(degrade_for_benchmark(crop, task, LEVELS.get(task.kind))), level
                    )

        def get_next(self) -> dict[str, _Array] | None:
            return next(self.crops, None)

    graph = onnx.load(exported.files["float32"]).graph
    weights = {tensor.name for tensor in graph.initializer}
    kinds = ["Conv", "Gemm", "MatMul"]
    logging.disable(logging.WARNING)  # advises to fold constants first, which are none here
    quantization.quantize_static(
        exported.files["float32"],
        exported.files["int8"],
        Photographs(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=kinds,
        nodes_to_exclude=[
            node.name
            for node in graph.node
            if node.op_type in kinds and node.input[1] not in weights
        ],
        per_channel=True,
    )
    logging.disable(logging.NOTSET)


def in_pytorch(exported: Exported, precision: str) -> Run:
    """Return the network as ``Restorer`` runs it."""
    network, level = exported.source.model.network, exported.level

    def run(x: _Array) -> _Array:
        low = precision != "float32"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            return restore_tensor(network, torch.from_numpy(x), level).numpy()

    return run


def in_onnx_runtime(exported: Exported, precision: str, threads: int, side: int | None) -> Run:
    """Return the file in ONNX Runtime; ``side`` fixes the size of images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    if side is not None:
        for name, size in {"batch": 1, "height": side, "width": side}.items():
            options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(
        exported.files[precision], options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(["output"], feeds(x, exported.level))[0]


def in_openvino(exported: Exported, precision: str, threads: int, side: int | None) -> Run:
    """Return the file in OpenVINO; ``side`` fixes the size of images."""
    core = import_openvino().Core()
    model = core.read_model(exported.files["int8" if precision == "int8" else "float32"])
    if side is not None:
        zeros = np.zeros((1, exported.task.channels, side, side), np.float32)
        model.reshape({name: x.shape for name, x in feeds(zeros, exported.level).items()})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda x: request.infer(feeds(x, exported.level))["output"].copy()


def runs(
    exported: Exported, precisions: Sequence[str], threads: int, side: int, with_fixed: bool
) -> Iterator[tuple[str, str, Run]]:
    """Yield program, precision and run of everything to measure, PyTorch's float32 first."""
    for precision in precisions:
        if precision != "int8":
            yield PYTORCH, precision, in_pytorch(exported, precision)
    for fixed in (None, side) if with_fixed else (None,):
        suffix = FIXED if fixed else ""
        for precision in precisions:
            if precision != "bfloat16":
                run = in_onnx_runtime(exported, precision, threads, fixed)
                yield ONNX_RUNTIME + suffix, precision, run
        for precision in precisions if find_spec("openvino") else ():
            yield OPENVINO + suffix, precision, in_openvino(exported, precision, threads, fixed)


def measure(
    exported: Exported,
    side: int,
    threads: int,
    options: argparse.Namespace,
    precisions: Sequence[str],
    progress: Console,
) -> list[Measurement]:
    """Measure everything with one model, size and number of threads, in turns."""
    clean, degraded = photograph(exported.task, side)
    torch.set_num_threads(threads)
    contenders: list[tuple[Measurement, Run]] = []
    name = exported.source.name
    title = f"{name}, {side}x{side}, {threads} threads"
    with progress.status(f"{title}: building") as status:
        for program, precision, run in runs(
            exported, precisions, threads, side, not options.no_fixed
        ):
            status.update(f"{title}: warm-up of {program}, {precision}")
            restored = run(degraded)[0].transpose(1, 2, 0).reshape(clean.shape)
            found = Measurement(name, side, threads, program, precision)
            found.psnr = psnr(to_uint8(restored), clean)
            contenders.append((found, run))
        for index in range(options.rounds):
            status.update(f"{title}: round {index + 1} of {options.rounds}")
            for found, run in contenders:
                time.sleep(_PAUSE)
                began = time.perf_counter()
                run(degraded)
                found.times.append(time.perf_counter() - began)
    reference = contenders[0][0]
    for found, _ in contenders:
        found.seconds = median(found.times)
        pairs = zip(reference.times, found.times, strict=True)
        found.speed = median(base / own for base, own in pairs)
        found.psnr_float32 = reference.psnr
    best = max(contenders, key=lambda each: each[0].speed)[0]
    progress.print(
        f"{title}: PyTorch {reference.seconds:.3g} s, fastest {best.program}, {best.precision}, "
        f"{best.speed:.2f}x"
    )
    return [found for found, _ in contenders]


def as_markdown(found: Sequence[Measurement]) -> str:
    """Return the table, one row for each program and precision."""
    header = ("model", "pixels", "threads", "program", "precision", "seconds", "speed", "PSNR")
    return report.markdown(
        (*header, "against float32"),
        (
            (
                each.model,
                f"{each.side}x{each.side}",
                str(each.threads),
                each.program,
                each.precision,
                f"{each.seconds:.3f}",
                f"{each.speed:.2f}x",
                f"{each.psnr:.2f} dB",
                f"{each.psnr - each.psnr_float32:+.2f} dB",
            )
            for each in found
        ),
    )


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the files."""
    sizes = report.numbers("--sizes", options.sizes)
    threads = report.numbers("--threads", options.threads)
    if options.rounds < 1:
        raise VHeatIRError(f"--rounds {options.rounds}: give at least 1")
    names = options.models.split(",")
    released = [entry.name for entry in list_models()]
    for name in names:
        if name not in released:
            raise unknown_name("model", name, released)
    precisions = choose_precisions(options.precisions)
    progress = Console(stderr=True)
    packages = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    if len(packages) == 1:
        progress.print("openvino is not installed: left out")
    environment = report.environment("cpu") | {name: version(name) for name in packages}
    del environment["threads"]  # a column of the table
    found: list[Measurement] = []

    def save() -> None:  # after every setting, as a full run takes an hour
        records = [asdict(each) for each in found]
        short = [{k: v for k, v in each.items() if k != "times"} for each in records]
        texts = {".csv": report.csv_text(short), ".md": as_markdown(found)}
        content = {"environment": environment, "rounds": options.rounds, "records": records}
        report.write(options.out, "backends", content, texts)

    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            with progress.status(f"{name}: exporting"):
                exported = export(name, Path(folder), precisions)
            for side in sizes:
                for count in threads:
                    found += measure(exported, side, count, options, precisions, progress)
                    save()
    versions = ", ".join(f"{name} {text}" for name, text in environment.items() if name != "cpu")
    sys.stdout.write(f"{versions}; {' '.join(environment['cpu'])}\n\n{as_markdown(found)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parse(arguments)
    kept = "what was measured before is written"
    return report.exit_status(lambda: run(options), kept, "integrations")


if __name__ == "__main__":
    sys.exit(main())
