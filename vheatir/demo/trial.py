"""The "Try it on a clean image" tab: degrade, restore, compare.

With the model for the known degradation, with what Automatic chooses, and with a classic method.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from vheatir.colors import to_color_mode
from vheatir.degradations import degrade_for_benchmark
from vheatir.demo.samples import camera_noise
from vheatir.demo.shared import SAMPLES, Tab, cached_png, reports_errors, shown_image, upload_image
from vheatir.errors import VHeatIRError
from vheatir.evaluation.methods import bm3d_method, nlm_method
from vheatir.inference import AutoRestorer, Restorer, estimate_sigma
from vheatir.metrics import psnr, ssim, to_uint8
from vheatir.tasks import Task, get_task

#: Side of the central crop that is used, for results within seconds.
SIDE = 512
_SMALLEST = 8  # side of an image that all methods take
_NOISE, _JPEG, _CAMERA = "Noise", "JPEG", "Camera noise"
_NLM, _BM3D = "Non-local means", "BM3D (slower)"
_RANGES: dict[str, dict[str, Any]] = {
    _NOISE: {"minimum": 1, "maximum": 55, "value": 25, "label": "Noise level (sigma on 0–255)"},
    _JPEG: {"minimum": 5, "maximum": 95, "value": 10, "label": "JPEG quality"},
    _CAMERA: {"visible": False},
}


@dataclass(frozen=True)
class _Trial:
    """A clean image and its degraded version.

    Attributes:
        clean: ``uint8``, (H, W) or (H, W, 3).
        damage: the degradation, a key of ``_RANGES``.
        degraded: float32 in [0, 1], same shape.
        task: what the classic method removes, and the model too, except for camera noise.
        level: the level that was applied; for camera noise the estimated sigma.
    """

    clean: NDArray[np.uint8]
    damage: str
    degraded: NDArray[np.float32]
    task: Task
    level: float

    @property
    def description(self) -> str:
        """Degradation, level and size, such as ``"JPEG quality 10, 512 × 512"``."""
        level = "" if self.damage == _CAMERA else f" {self.task.level_name} {self.level:g}"
        return f"{self.damage}{level}, {self.clean.shape[1]} × {len(self.clean)}"


class TrialTab(Tab):
    """Builds the tab and handles its events."""

    def build(self, page: gr.Blocks) -> None:
        """Add the tab's components to ``page``, which is under construction."""
        gr.Markdown(
            "Add noise or JPEG artifacts to a clean image, restore it, and compare the result with "
            "the original, beside that of the model that Automatic chooses. Without an upload, a "
            f"sample is used. Large images are cropped to the central {SIDE} × {SIDE} pixels."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = upload_image("A clean image", "try_upload")
                chosen = gr.Radio(list(SAMPLES), value="Cat", label="Or a sample")
                kind = gr.Radio(
                    list(_RANGES), value=_NOISE, label="Degradation", elem_id="try_kind"
                )  # fmt: skip
                # API calls are checked by the range given here; the page narrows it when it opens.
                widest = {**_RANGES[_NOISE], "maximum": _RANGES[_JPEG]["maximum"]}
                level = gr.Slider(**widest, step=1, elem_id="try_level", buttons=[])
                methods = [_NLM] + ([_BM3D] if importlib.util.find_spec("bm3d") else [])
                method = gr.Radio(methods, value=_NLM, label="Compare with", elem_id="try_baseline")
                button = gr.Button("Try it", variant="primary", elem_id="try")
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(
                    label="Degraded | restored", type="filepath", format="png", max_height=560,
                    interactive=False, buttons=["fullscreen"], elem_id="try_result",
                )  # fmt: skip
                table = gr.Markdown(elem_id="try_table")
                with gr.Row():
                    other = shown_image("Classic method")
                    clean = shown_image("Clean")
        page.load(
            lambda: gr.Slider(**_RANGES[_NOISE]), outputs=level, api_visibility="private",
            queue=False,
        )  # fmt: skip
        kind.input(
            lambda name: gr.Slider(**{"visible": True, **_RANGES[name]}), kind, level,
            api_visibility="private", queue=False,
        )  # fmt: skip
        button.click(
            self.run, [image, chosen, kind, level, method], [slider, table, other, clean],
            api_name="try_clean", show_progress_on=slider, **self.compute,
            api_description="Degrade a clean image, restore it, and measure both.",
        )  # fmt: skip

    @reports_errors()
    def run(
        self,
        image: str | None = None,
        sample: str = "Cat",
        damage: str = _NOISE,
        level: float = 25,
        compare_with: str = _NLM,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio injects it by this default
    ) -> tuple[tuple[str, str], str, str, str]:
        """Degrade, restore, measure."""
        if damage not in _RANGES:
            raise VHeatIRError(f"unknown degradation {damage!r}: give one of {', '.join(_RANGES)}")
        trial = _degrade(_centre(self.load(image, sample)), damage, level)
        progress(0.1, desc="Restoring")
        restorer, restorer_level = self._restorer_for(trial)
        degraded = to_uint8(trial.degraded)
        restored = to_uint8(restorer.restore(trial.degraded, restorer_level))
        results = {"degraded": degraded, f"**{restorer.name}**": restored}
        progress(0.4, desc="Automatic")
        found, automatic = self._automatic(trial, restorer, restorer_level, restored)
        if automatic is not None:
            results["Automatic"] = automatic
        progress(0.6, desc=compare_with)
        uses_bm3d = compare_with == _BM3D and damage != _JPEG
        method = bm3d_method(trial.task) if uses_bm3d else nlm_method(trial.task)
        results[method.name] = classic = to_uint8(method.restore(trial.degraded, trial.level))
        text = f"{_table(results, trial.clean)}\n\nAutomatic: {found}.\n\n{trial.description}"
        stem = Path(image).stem if image else sample
        images = {
            "degraded": degraded, "restored": restored, "classic": classic, "clean": trial.clean
        }  # fmt: skip
        before, after, other, clean = (
            cached_png(each, f"{stem}_{name}.png") for name, each in images.items()
        )
        return (before, after), text, other, clean

    def _restorer_for(self, trial: _Trial) -> tuple[Restorer, float | None]:
        """Return the model for the known degradation, and its level; None if it takes none."""
        is_camera = trial.damage == _CAMERA
        labels = self.catalogue.labels(get_task("photo")) if is_camera else []
        # A denoiser stands in for a missing model of photographs.
        label = labels[0] if labels else self.catalogue.label_for(trial.task.name)
        restorer = self.catalogue.restorer(label)
        if not restorer.takes_level:
            return restorer, None
        if is_camera:  # an estimate may be outside the trained range
            return restorer, restorer.nearest_level(trial.level)
        return restorer, trial.level

    def _automatic(
        self,
        trial: _Trial,
        known: Restorer,
        known_level: float | None,
        restored: NDArray[np.uint8],
    ) -> tuple[str, NDArray[np.uint8] | None]:
        """Return what Automatic finds, and its result; None without a model for it.

        Args:
            trial: the degraded image.
            known: the model for the known degradation.
            known_level: its level.
            restored: its result, which is Automatic's if it chooses the same.
        """
        try:
            automatic = AutoRestorer(load=self.catalogue.for_task)
            choice, chosen, level = automatic.choose(trial.degraded)
        except VHeatIRError as error:  # no model for this degradation
            return str(error), None
        found = f"found {choice.message}"
        if chosen is None:
            return f"{found}: left unchanged", to_uint8(trial.degraded)
        if chosen is known and level == known_level:
            return f"{found} -> {chosen.name}, as above", restored
        return f"{found} -> {chosen.name}", to_uint8(chosen.restore(trial.degraded, level))


def _centre(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the part of an image that is used, (H, W) or (H, W, 3).

    Raises:
        VHeatIRError: the image is too small.
    """
    if min(pixels.shape[:2]) < _SMALLEST:
        raise VHeatIRError(
            f"the image is too small to compare methods: give {_SMALLEST} × {_SMALLEST} pixels "
            "or more"
        )
    top, left = (max(n - SIDE, 0) // 2 for n in pixels.shape[:2])
    part = pixels[top : top + SIDE, left : left + SIDE]
    return np.ascontiguousarray(to_color_mode(part, "gray" if part.ndim == 2 else "rgb"))


def _degrade(clean: NDArray[np.uint8], damage: str, level: float) -> _Trial:
    """Degrade an image; ``damage`` is a key of ``_RANGES``, camera noise ignores the level."""
    color = "gray" if clean.ndim == 2 else "color"
    task = get_task(f"jpeg_{color}" if damage == _JPEG else f"denoise_{color}")
    if damage == _CAMERA:
        degraded = camera_noise(clean).astype(np.float32) / np.float32(255)
        return _Trial(clean, damage, degraded, task, estimate_sigma(degraded))
    return _Trial(clean, damage, degrade_for_benchmark(clean, task, level), task, level)


def _table(results: dict[str, NDArray[np.uint8]], clean: NDArray[np.uint8]) -> str:
    """Return a Markdown table of PSNR and SSIM by name."""
    lines = ["| | PSNR (dB) | SSIM |", "|---|---:|---:|"]
    for name, result in results.items():
        measured = ssim(result, clean) if min(result.shape[:2]) >= 11 else float("nan")
        lines.append(f"| {name} | {psnr(result, clean):.2f} | {measured:.4f} |")
    return "\n".join(lines)
