"""The "Batch" tab: restores several files into a ZIP, with the runner of ``vheatir restore``."""

from __future__ import annotations

import itertools
import tempfile
import zipfile
from pathlib import Path

import gradio as gr

from vheatir.demo.shared import Tab, cached_path, reports_errors, strength_sliders
from vheatir.errors import VHeatIRError
from vheatir.inference.files import default_suffix
from vheatir.inference.jobs import Job, Runner, Settings

#: Maximum files per batch, so that one visitor does not block the others for an hour.
MOST = 50
_TASKS = {"Automatic": "auto", "Noise": "denoise", "JPEG": "jpeg", "Photo": "photo"}
#: Output suffixes; None chooses it per file, as the command line does.
_SUFFIXES = {
    "As uploaded": None, "PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tiff"
}  # fmt: skip


class BatchTab(Tab):
    """Builds the tab and handles its events."""

    def build(self) -> None:
        """Add the tab's components to the page under construction."""
        gr.Markdown(
            f"Restore up to {MOST} images at once. The model and the noise level are chosen for "
            "each image. EXIF orientation is applied; colour profiles, EXIF data, 16-bit depth and "
            "transparency are kept."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                files = gr.File(
                    label="Images", file_count="multiple", type="filepath", elem_id="batch_files"
                )
                task = gr.Radio(
                    list(_TASKS), value="Automatic", label="Remove", elem_id="batch_task"
                )  # fmt: skip
                form = gr.Radio(list(_SUFFIXES), value="As uploaded", label="Output format")
                luma, chroma = strength_sliders("batch_")
                button = gr.Button("Restore all", variant="primary", elem_id="batch")
            with gr.Column(scale=3, min_width=320):
                archive = gr.File(label="Results (ZIP)", interactive=False, elem_id="batch_zip")
                report = gr.Markdown(elem_id="batch_report")
        button.click(
            self.run, [files, task, form, luma, chroma], [archive, report],
            api_name="restore_batch", show_progress_on=archive, **self.compute,
            api_description="Restore several files. Returns a ZIP and a report, one line per file.",
        )  # fmt: skip

    @reports_errors()
    def run(
        self,
        files: list[str] | None,
        remove: str = "Automatic",
        write: str = "As uploaded",
        luma: float = 100,
        chroma: float = 100,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio injects it by this default
    ) -> tuple[str | None, str]:
        """Restore all files; failures are reported and do not stop the rest."""
        if not files:
            raise VHeatIRError("no files yet: upload some, then press Restore all")
        if len(files) > MOST:
            raise VHeatIRError(f"{len(files)} files are too many: upload {MOST} at most")
        settings = Settings(
            task=_TASKS[remove],  # type: ignore[arg-type]
            strength=(luma, chroma),
            max_pixels=self.max_pixels,
        )
        runner = Runner(settings, self.catalogue.for_task)
        lines, done = [], 0
        # On disk: the results of a batch may need gigabytes.
        out = cached_path("restored.zip")
        with (
            tempfile.TemporaryDirectory() as folder,
            zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive,  # images are compressed
        ):
            for index, file in enumerate(files):
                path = Path(file)
                suffix = _SUFFIXES[write] or default_suffix(path)
                target = Path(folder) / f"restored{suffix}"
                progress((index, len(files)), desc=path.name, unit="files")
                outcome = runner.attempt(Job(path, target, label=path.name))
                if outcome.state == "restored":
                    archive.write(target, _free_name(path.stem, suffix, archive.namelist()))
                    target.unlink()
                    done += 1
                lines.append(f"- {_escape(path.name)}: {_escape(outcome.message)}")
        summary = f"**{done} of {len(files)} restored.**\n\n" + "\n".join(lines)
        return (str(out) if done else None), summary


def _free_name(stem: str, suffix: str, taken: list[str]) -> str:
    numbers = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    used = {name.casefold() for name in taken}  # Windows and macOS ignore case
    names = (f"{stem}{number}{suffix}" for number in numbers)
    return next(name for name in names if name.casefold() not in used)


def _escape(text: str) -> str:
    """Escape Markdown and HTML; file names are untrusted."""
    return "".join(f"&#{ord(c)};" if c in "<>&*_`[]()!#|\\~" else c for c in text)
