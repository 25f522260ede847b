"""
Remove JPEG artifacts
=====================

A photograph compressed at quality 10, restored by a blind model: it is not given the quality.
"""

import matplotlib.pyplot as plt
import numpy as np

from vheatir import Restorer, psnr, psnrb, ssim
from vheatir.bundled import heldout_photographs
from vheatir.degradations import jpeg_compress

# %%
# The whole photograph is compressed and restored; the figure shows a crop of it.

clean = heldout_photographs()["coffee"]
compressed = jpeg_compress(clean, 10)
restorer = Restorer("jpeg_color_small", "cpu")
restored = restorer.restore(compressed)

crop = np.s_[70:310, 210:450]
panels = {"JPEG, quality 10": compressed, "restored": restored, "original": clean}
figure, axes = plt.subplots(1, 3, figsize=(7.32, 2.9), dpi=100)
figure.subplots_adjust(0, 0, 1, 2.4 / 2.9, wspace=6 / 240)
for axis, (title, image) in zip(axes, panels.items(), strict=True):
    axis.imshow(image[crop])
    axis.axis("off")
    score = f"\n{psnr(image, clean):.2f} dB, SSIM {ssim(image, clean):.3f}"
    axis.set_title(title + ("" if image is clean else score), fontsize=9)

# %%
# One model serves all qualities. PSNR-B adds the visible block borders to the error, so that it
# rises more.

qualities = [5, 10, 20, 40, 60, 80, 95]
area = np.s_[:256, 172:428]
small = clean[area]
before = [jpeg_compress(small, quality) for quality in qualities]
after = [restorer.restore(image) for image in before]

figure, axis = plt.subplots(figsize=(7.3, 3.4), dpi=100, layout="constrained")
for metric, line in ((psnr, "-"), (psnrb, "--")):
    name = "PSNR" if metric is psnr else "PSNR-B"
    for label, images, color in (("JPEG", before, "#777777"), ("restored", after, "#d9480f")):
        values = [metric(image, small) for image in images]
        axis.plot(qualities, values, line, color=color, marker="o", ms=4, label=f"{label}, {name}")
axis.set(xlabel="JPEG quality", ylabel="dB", xticks=qualities)
axis.grid(alpha=0.3)
axis.legend(frameon=False)
plt.show()
