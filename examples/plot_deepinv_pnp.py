"""
Deblurring with deepinv
=======================

A denoiser is a prior for other problems than denoising: plug-and-play methods alternate between a
step towards the measurement and a denoising step. Here DPIR (Zhang et al., "Plug-and-Play Image
Restoration with Deep Denoiser Prior", TPAMI 2021), as deepinv solves it, removes a known blur with
:class:`vheatir.deepinv.HeatDenoiser`. Its network has seen white noise alone, never a blur.

Needs ``pip install 'vheatir[integrations]' matplotlib``.
"""

# %%
# A photograph that no model was trained on, and a blurred and noisy measurement of it: a motion by
# eleven pixels along the diagonal, and white noise of 0.01 in units of [0, 1], 2.55 of 255.

import matplotlib.pyplot as plt
import torch
from deepinv.optim import DPIR
from deepinv.physics import BlurFFT, GaussianNoise

from vheatir.bundled import heldout_photographs
from vheatir.deepinv import HeatDenoiser
from vheatir.metrics import psnr, to_uint8

SIGMA = 0.01

photograph = heldout_photographs()["chelsea"][60:220, 110:302]
clean = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None] / 255
kernel = torch.eye(11)[None, None] / 11
physics = BlurFFT(clean.shape[1:], kernel, noise_model=GaussianNoise(SIGMA))
torch.manual_seed(0)
measured = physics(clean)

# %%
# Eight iterations, with the level of the denoiser falling from 49 to 2.55 of 255.

solver = DPIR(sigma=SIGMA, denoiser=HeatDenoiser("denoise_color"))
with torch.no_grad():
    restored = solver(measured, physics)

# %%
# The PSNR before and after, on 8-bit images, over all channels.

images = {"measured": measured, "restored": restored, "original": clean}
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), layout="constrained")
for axis, (name, batch) in zip(axes, images.items(), strict=True):
    pixels = to_uint8(batch[0].permute(1, 2, 0).numpy())
    axis.imshow(pixels)
    gain = "" if batch is clean else f", {psnr(pixels, photograph):.2f} dB"
    axis.set_title(f"{name}{gain}")
    axis.axis("off")
plt.show()
