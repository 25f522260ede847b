r"""
Where heat flows
================

The operator of this package lets the pixels of an image diffuse like heat in a plate with insulated
edges. This example shows the operator by itself, and what a trained network does with it.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from vheatir import Restorer, heat_conduction
from vheatir.bundled import heldout_photographs
from vheatir.explain.figures import draw_map
from vheatir.explain.influence import diffusivities, trace_influence

# %%
# Three hot pixels, one of them at an edge. With one diffusivity k for all frequencies, heat spreads
# as a Gaussian of standard deviation :math:`\sqrt{2k}` pixels, and is reflected at the edges: none
# is lost.

plate = torch.zeros(96, 96)
plate[48, 48] = plate[2, 20] = plate[70, 80] = 1

figure, axes = plt.subplots(1, 4, figsize=(7.3, 2.1), dpi=100, layout="constrained")
for axis, k in zip(axes, (0.5, 8, 64, 512), strict=True):
    heat = heat_conduction(plate, k)
    axis.imshow(heat, cmap="inferno")
    axis.set_title(f"k = {k:g}, sum {float(heat.sum()):.2f}", fontsize=9)
    axis.axis("off")

# %%
# The same on a photograph. In a network, each channel of the features has a diffusivity of its own
# at each frequency, and it is learned.

clean = heldout_photographs()["coffee"][60:300, 180:420]
image = torch.from_numpy(clean.astype(np.float32) / 255)

figure, axes = plt.subplots(1, 3, figsize=(7.32, 2.7), dpi=100)
figure.subplots_adjust(0, 0, 1, 2.4 / 2.7, wspace=6 / 240)
for axis, k in zip(axes, (0, 4, 64), strict=True):
    axis.imshow(heat_conduction(image, k, dim=(0, 1)).clamp(0, 1))
    axis.set_title(f"k = {k}", fontsize=9)
    axis.axis("off")

# %%
# How far does one pixel reach in a released model? One pixel is made brighter by 0.1, and the
# change of the features is drawn after each stage, over four decades. The last map is the effective
# receptive field: how much each pixel of the input changes the pixel in the centre of the output.

restorer = Restorer("denoise_color_small", "cpu")
influence = trace_influence(restorer, clean, (120, 120), level=25)

maps = [*influence.stages, influence.receptive_field]
rows = -(-len(maps) // 4)
figure, axes = plt.subplots(rows, 4, figsize=(7.3, 2.25 * rows), dpi=100, layout="constrained")
for axis in axes.flat:
    axis.axis("off")
for axis, panel in zip(axes.flat, maps, strict=False):
    draw_map(axis, panel, clean.shape[:2])
    axis.title.set_fontsize(8)

# %%
# What it has learned: a few channels keep most frequencies, most of them only the lowest, and a few
# spread these over a hundred pixels. What remains of a frequency is :math:`e^{-k\omega^2}`.

(learned,) = diffusivities(restorer.network)
frequency = np.arange(learned.k.shape[0]) / learned.k.shape[0]
k = (learned.k[0] + learned.k[:, 0]) / 2  # mean along rows and columns, (frequencies, channels)

figure, axes = plt.subplots(1, 2, figsize=(7.3, 2.8), dpi=100, layout="constrained")
axes[0].plot(frequency, np.exp(-k * (np.pi * frequency[:, None]) ** 2), color="#d9480f", alpha=0.3)
axes[0].set(xlabel="frequency / pi", ylabel="what remains", title="all channels")
axes[1].hist(learned.spread, bins=24, color="#d9480f")
axes[1].set(xlabel="spread at zero frequency, pixels", ylabel="channels", title="how far")
plt.show()
