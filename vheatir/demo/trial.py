"""The "Try it on a clean image" tab: degrade, restore, compare with a classic method."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from vheatir.colors import to_color_mode
from vheatir.degradations import degrade_for_benchmark
from vheatir.demo.samples import camera_noise
from vheatir.demo.shared import SAMPLES, Tab, cached_png, reports_errors, shown_image, upload_image
from vheatir.errors import VHeatIRError
from vheatir.evaluation.methods import bm3d_method, nlm_method
from vheatir.inference import estimate_sigma
from vheatir.metrics import psnr, ssim, to_uint8
from vheatir.tasks import get_task

#: Side of the central crop that is used, for results within seconds.
SIDE = 512
_NOISE, _JPEG, _CAMERA = "Noise", "JPEG", "Camera noise"
_NLM, _BM3D = "Non-local means", "BM3D (slower)"
_RANGES: dict[str, dict[str, Any]] = {
    _NOISE: {"minimum": 1, "maximum": 55, "value": 25, "label": "Noise level (sigma on 0–255)"},
    _JPEG: {"minimum": 5, "maximum": 95, "value": 10, "label": "JPEG quality"},
    _CAMERA: {"visible": False},
}


class TrialTab(Tab):
    """Builds the tab and handles its events."""

    def build(self) -> None:
        """Add the tab's components to the page under construction."""
        gr.Markdown(
            "Add noise or JPEG artifacts to a clean image, restore it, and compare the result with "
            "the original. Without an upload, a sample is used. Large images are cropped to the "
            f"central {SIDE} × {SIDE} pixels."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = upload_image("A clean image", "try_upload")
                chosen = gr.Radio(list(SAMPLES), value="Cat", label="Or a sample")
                kind = gr.Radio(
                    list(_RANGES), value=_NOISE, label="Degradation", elem_id="try_kind"
                )  # fmt: skip
                level = gr.Slider(**_RANGES[_NOISE], step=1, elem_id="try_level", buttons=[])
                methods = [_NLM] + ([_BM3D] if importlib.util.find_spec("bm3d") else [])
                baseline = gr.Radio(
                    methods, value=_NLM, label="Compare with", elem_id="try_baseline"
                )
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
        kind.input(
            lambda name: gr.Slider(**{"visible": True, **_RANGES[name]}), kind, level,
            api_visibility="private", queue=False,
        )  # fmt: skip
        button.click(
            self.run, [image, chosen, kind, level, baseline], [slider, table, other, clean],
            api_name="try_clean", concurrency_limit=1, concurrency_id="compute",
            show_progress_on=slider,
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
        pixels = self.load(image, sample)
        is_gray = pixels.ndim == 2
        reference = np.ascontiguousarray(
            to_color_mode(_centre(pixels), "gray" if is_gray else "rgb")
        )
        kind = "jpeg" if damage == _JPEG else "denoise"
        task = get_task(f"{kind}_gray" if is_gray else f"{kind}_color")
        used, models = level, []  # the level of both methods, and models for photographs
        if damage == _CAMERA:
            degraded = camera_noise(reference).astype(np.float32) / np.float32(255)
            used, models = estimate_sigma(degraded), self.catalogue.labels(get_task("photo"))
        else:
            degraded = degrade_for_benchmark(reference, task, level)
        label = models[0] if models else self.catalogue.label_for(task.name)
        progress(0.1, desc="Restoring")
        restorer = self.catalogue.restorer(label)
        given = restorer.nearest_level(used) if damage == _CAMERA else used
        restored = restorer.restore(degraded, given if restorer.takes_level else None)
        progress(0.6, desc=compare_with)
        uses_bm3d = compare_with == _BM3D and damage != _JPEG
        method = bm3d_method(task) if uses_bm3d else nlm_method(task)
        classic = method.restore(degraded, used)
        rows = [
            ("degraded", to_uint8(degraded)),
            (f"**{label.split(' · ')[0]}**", to_uint8(restored)),
            (method.name, to_uint8(classic)),
        ]
        lines = ["| | PSNR (dB) | SSIM |", "|---|---:|---:|"]
        for name, shown in rows:
            measured = ssim(shown, reference) if min(shown.shape[:2]) >= 11 else float("nan")
            lines.append(f"| {name} | {psnr(shown, reference):.2f} | {measured:.4f} |")
        stem = Path(image).stem if image else sample
        files = [cached_png(s, f"{stem}_{i}.png") for i, (_, s) in enumerate(rows)]
        clean = cached_png(reference, f"{stem}_clean.png")
        strength = "" if damage == _CAMERA else f" {task.level_name} {level:g}"
        note = f"\n\n{damage}{strength}, {reference.shape[1]} × {len(reference)}"
        return (files[0], files[1]), "\n".join(lines) + note, files[2], clean


def _centre(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    top, left = (max(n - SIDE, 0) // 2 for n in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]
