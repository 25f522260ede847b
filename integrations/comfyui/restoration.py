"""Restore a batch of ComfyUI's images with a :class:`vheatir.Restorer`; needs no ComfyUI."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vheatir.errors import VHeatIRError
from vheatir.inference.restorer import AutoRestorer, Restorer, describe_restoration
from vheatir.inference.tiled import Progress


def restore_batch(
    restorer: Restorer,
    images: Tensor,
    *,
    level: float | None = None,
    strength: float = 100,
    tile: Literal["auto"] | int | None = "auto",
    mask: Tensor | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, str]:
    """Restore images one by one, each as :meth:`vheatir.Restorer.restore` does.

    Args:
        restorer: of one model, or ``Restorer("auto")``, which chooses one for each image.
        images: (B, H, W, C), floating in [0, 1], C = 3 for RGB or 4 with alpha, which is kept.
        level: sigma on 0..255 or JPEG quality; None to estimate sigma from each image.
        strength: percent, 0 to 150.
        tile: largest side of the tiles in pixels, None for the whole image, or ``"auto"``.
        mask: (M, h, w) or (h, w): images are restored where it is 1, stay where it is 0 and are
            blended in between. It is resized to the images; M masks are used in turn.
        progress: called as ``progress(done, total)`` before each image and after each tile. What
            it raises ends the restoration.

    Returns:
        The restored images, like ``images``, and a report with a line for each.

    Raises:
        VHeatIRError: a level for ``Restorer("auto")``; see also :meth:`vheatir.Restorer.restore`.
    """
    if level is not None and isinstance(restorer, AutoRestorer):
        raise VHeatIRError(
            "the automatic choice of a model takes no level: choose a model, or set the level to "
            "automatic"
        )
    restored = images.clone()
    count = len(images)
    lines = []
    for index, image in enumerate(images):

        def report(done: int, total: int, index: int = index) -> None:
            if progress is not None:
                progress(index * total + done, count * total)

        report(0, 1)
        result = restorer.restore_detailed(
            image.float().cpu().numpy(), level, strength=strength, tile=tile, progress=report
        )
        restored[index] = torch.from_numpy(result.image)
        found, used = "", restorer
        if result.choice is not None and isinstance(restorer, AutoRestorer):
            found = result.choice.message
            chosen = restorer.restorer_for(result.choice)
            if chosen is None:
                lines.append(f"found {found}: left unchanged")
                continue
            used = chosen
        lines.append(describe_restoration(result, used, (strength, strength), found))
    if mask is not None and count:
        restored = torch.lerp(images, restored, _fit_mask(mask, restored))
    if count > 1:
        lines = [f"{number}: {line}" for number, line in enumerate(lines, 1)]
    return restored, "\n".join(lines)


def _fit_mask(mask: Tensor, images: Tensor) -> Tensor:
    """Return a mask for each image (B, H, W, 1), in [0, 1] and the dtype of the images."""
    count, height, width = images.shape[:3]
    planes = mask.to(images).reshape(-1, 1, *mask.shape[-2:]).clamp(0, 1)
    if planes.shape[-2:] != (height, width):
        planes = F.interpolate(planes, (height, width), mode="bilinear")
    return planes[torch.arange(count) % len(planes)].movedim(1, -1)
