"""The "Try it on a clean image" tab: degrade, restore, compare.

With the model for the known degradation, with what Automatic chooses, and with a classic method.
"""

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
from vheatir.inference import AutoRestorer, estimate_sigma
from vheatir.metrics import psnr, ssim, to_uint8
from vheatir.tasks import get_task

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
        pixels = self.load(image, sample)
        if min(pixels.shape[:2]) < _SMALLEST:
            raise VHeatIRError(
                f"the image is too small to compare methods: give {_SMALLEST} × {_SMALLEST} pixels "
                "or more"
            )
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
        given = given if restorer.takes_level else None
        shown, restored = to_uint8(degraded), to_uint8(restorer.restore(degraded, given))
        rows = [("degraded", shown), (f"**{restorer.name}**", restored)]
        progress(0.4, desc="Automatic")
        try:
            choice, chosen, estimated = AutoRestorer(load=self.catalogue.for_task).choose(degraded)
        except VHeatIRError as error:  # no model for this degradation
            found = str(error)
        else:
            if chosen is None:
                automatic, used_model = shown, ": left unchanged"
            elif chosen is restorer and estimated == given:
                automatic, used_model = restored, f" -> {chosen.name}, as above"
            else:
                automatic = to_uint8(chosen.restore(degraded, estimated))
                used_model = f" -> {chosen.name}"
            found = f"found {choice.message}{used_model}"
            rows.append(("Automatic", automatic))
        progress(0.6, desc=compare_with)
        uses_bm3d = compare_with == _BM3D and damage != _JPEG
        method = bm3d_method(task) if uses_bm3d else nlm_method(task)
        classic = to_uint8(method.restore(degraded, used))
        lines = ["| | PSNR (dB) | SSIM |", "|---|---:|---:|"]
        for name, result in [*rows, (method.name, classic)]:
            measured = ssim(result, reference) if min(result.shape[:2]) >= 11 else float("nan")
            lines.append(f"| {name} | {psnr(result, reference):.2f} | {measured:.4f} |")
        strength = "" if damage == _CAMERA else f" {task.level_name} {level:g}"
        lines += ["", f"Automatic: {found}."]
        lines += ["", f"{damage}{strength}, {reference.shape[1]} × {len(reference)}"]
        stem = Path(image).stem if image else sample
        images = {"degraded": shown, "restored": restored, "classic": classic, "clean": reference}
        before, after, other, clean = (
            cached_png(each, f"{stem}_{name}.png") for name, each in images.items()
        )
        return (before, after), "\n".join(lines), other, clean


def _centre(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    top, left = (max(n - SIDE, 0) // 2 for n in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]
