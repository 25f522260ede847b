"""The denoisers of vHeatIR as those of deepinv: :class:`HeatDenoiser`.

deepinv (Tachella et al., "DeepInverse: A Python package for solving imaging inverse problems with
deep learning", JOSS 2025, arXiv 2505.20160) solves inverse problems, such as deblurring, with a
denoiser as prior. ``examples/plot_deepinv_pnp.py`` shows one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath
from vheatir.inference.restorer import open_model
from vheatir.tasks import TASKS
from vheatir.weights import LoadedModel, level_range

try:
    from deepinv.models import Denoiser
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "deepinv":
        raise
    raise ModuleNotFoundError(
        "vheatir.deepinv needs the package 'deepinv', which is not installed: "
        "pip install 'vheatir[integrations]'",
        name="deepinv",
    ) from None


class HeatDenoiser(Denoiser):
    """A denoiser for white Gaussian noise, as a ``deepinv.models.Denoiser``.

    Gradients with respect to the image and to ``sigma`` are kept. The weights take none, until
    ``requires_grad_(True)``.

    Args:
        model: name of a released model or task, ``"denoise_color"`` or ``"denoise_gray"`` for
            the best; or another one with the level as an input, see
            :class:`vheatir.Restorer`.
        device: device of the network.
        imports: see :func:`vheatir.load_weights`.

    Attributes:
        sigma_range: smallest and largest ``sigma`` of the training, in units of [0, 1].

    Raises:
        VHeatIRError: no such model, or it is not a denoiser that takes the level as an input.
    """

    def __init__(
        self,
        model: StrPath | LoadedModel = "denoise_color",
        device: str | torch.device = "cpu",
        *,
        imports: Sequence[str] = (),
    ) -> None:
        super().__init__()
        loaded = open_model(model, imports)
        task = TASKS.get(str(loaded.info.get("task")))
        takes_level = bool(getattr(loaded.network, "takes_level", False))
        if task is None or task.kind != "denoise" or not takes_level:
            raise VHeatIRError(
                f"{loaded.name} is not a denoiser that takes the level of the noise: give "
                "denoise_color, denoise_gray, or a model trained for a range of levels"
            )
        self.network = loaded.network.to(device)
        low, high = level_range(loaded.info) or (0.0, math.inf)
        self.sigma_range = (low / 255, high / 255)
        self._has_warned = False

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: object) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, C, H, W) with the channels of the model, 3 (RGB) or 1, of the dtype and on the
                device of the weights; in [0, 1], up to noise.
            sigma: standard deviation of the noise, in the units of ``x``: a number; (B,) or
                (B, 1, 1, 1), one per image; or (B, 1, H, W), one per pixel, where B may be 1.
                Outside :attr:`sigma_range`, the nearest value in it is used; the first time, a
                warning says so.
            **kwargs: ignored, as in deepinv's own denoisers.

        Returns:
            Of the shape and dtype of ``x``, not clipped.

        Raises:
            VHeatIRError: ``x`` or ``sigma`` does not fit the model, or ``sigma`` is not finite.
        """
        try:
            level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        except (TypeError, ValueError, RuntimeError):
            raise VHeatIRError(
                f"sigma {sigma!r}: give the standard deviation of the noise, in units of the image"
            ) from None
        if level.ndim == 4 and level.shape[1:] == (1, 1, 1):
            level = level.flatten()
        low, high = self.sigma_range
        lowest, highest = level.detach().aminmax()
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise VHeatIRError("sigma is not finite: give the standard deviation of the noise")
        # a float32 sigma of exactly 55 / 255 is not outside
        slack = 1e-6
        if not self._has_warned and not (low - slack <= lowest and highest <= high + slack):
            self._has_warned = True
            warnings.warn(
                f"sigma {_format(float(lowest), float(highest))} is outside the range that the "
                f"denoiser is trained for, {_format(low, high)}: the nearest value in it is used",
                stacklevel=2,
            )
        return self.network(x, level.clamp(low, high) * 255)


def _format(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
