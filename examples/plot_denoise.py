"""
Denoise and compare
===================

White Gaussian noise of sigma 25 on a photograph that no model was trained on, restored by two
released models and by non-local means.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.restoration import denoise_nl_means

from vheatir import Restorer, psnr, ssim
from vheatir.bundled import heldout_photographs
from vheatir.degradations import add_noise
from vheatir.metrics import to_uint8

# %%
# Images are arrays of shape (H, W, 3). A floating-point image has white at 1, and may exceed
# [0, 1]: the noise is neither clipped nor rounded here. ``sigma`` is on the scale 0 to 255.

SIGMA = 25
clean = heldout_photographs()["chelsea"][45:285, 90:330]
noisy = add_noise(clean.astype(np.float32) / 255, SIGMA, np.random.default_rng(0))

# %%
# A :class:`~vheatir.Restorer` holds one model. The denoisers take the level of the noise: given, or
# estimated from the image if it is left out. The result has the type and size of the input.

results = {
    "noisy": noisy,
    "non-local means": denoise_nl_means(
        noisy, 5, 6, h=0.6 * SIGMA / 255, sigma=SIGMA / 255, channel_axis=-1
    ),
    "U small": Restorer("denoise_color_small", "cpu").restore(noisy, SIGMA),
    "U medium": Restorer("denoise_color_medium", "cpu").restore(noisy, SIGMA),
}

# %%
# PSNR and SSIM are measured on 8-bit images, over all of R, G and B, as the published tables do.


def show(panels: dict[str, np.ndarray]) -> None:
    """Show crops of 240x240 pixels, three in a row, one pixel of the figure for each of theirs."""
    rows = -(-len(panels) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(7.32, 2.9 * rows), dpi=100, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1 - 0.5 / (2.9 * rows), wspace=6 / 240, hspace=0.5 / 2.4)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image) in zip(axes.flat, panels.items(), strict=False):
        axis.imshow(to_uint8(image))
        axis.set_title(title, fontsize=9)


def scored(name: str, image: np.ndarray) -> str:
    """Return the name of a method with its PSNR and SSIM."""
    pixels = to_uint8(image)
    return f"{name}\n{psnr(pixels, clean):.2f} dB, SSIM {ssim(pixels, clean):.3f}"


removed = 0.5 + (noisy - results["U medium"])
panels = {scored(name, image): image for name, image in results.items()}
show({**panels, "original": clean, "removed by U medium": removed})

# %%
# The strength of the restoration is set in percent, for luma and chroma separately. Below 100 the
# texture that the network removed returns first, and the colour noise last.

restorer = Restorer("denoise_color_medium", "cpu")
show(
    {
        f"luma {luma} %, chroma {chroma} %": restorer.restore(noisy, SIGMA, strength=(luma, chroma))
        for luma, chroma in ((100, 100), (70, 100), (40, 100))
    }
)
plt.show()
