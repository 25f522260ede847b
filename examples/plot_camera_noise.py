"""
A photograph with camera noise
==============================

The noise of a camera is not white: demosaicing and the camera's own noise reduction correlate it,
chroma is blotchy, and JPEG comes on top. ``Restorer("auto")`` measures this, and chooses the model.
"""

import matplotlib.pyplot as plt
import numpy as np

from vheatir import Restorer, psnr, ssim
from vheatir.bundled import heldout_photographs
from vheatir.degradations import CameraNoise, add_camera_noise, jpeg_compress
from vheatir.metrics import to_uint8

# %%
# The degradation is the one of the training: sensor noise on a Bayer mosaic, demosaicing, noise
# reduction, sharpening. ``luma_std`` is its strength at the end, on the scale 0 to 255.

clean = heldout_photographs()["chelsea"]
rng = np.random.default_rng(3)
camera = CameraNoise.draw(rng, luma_std=9.0)
noisy = add_camera_noise(clean.astype(np.float32) / 255, camera, rng)
photograph = jpeg_compress(to_uint8(noisy), 90)

# %%
# What was found, and which model was chosen for it. Luma and chroma are estimated separately.

result = Restorer("auto", "cpu").restore_detailed(photograph)
print("found:", result.choice.message)
print("task: ", result.choice.model)

# %%
# A denoiser for white noise, beside it, takes the blotches for content: it was never shown any.

white = Restorer("denoise_color_medium", "cpu").restore(photograph)

crop = np.s_[20:260, 95:335]
panels = {
    "camera noise, JPEG 90": photograph,
    "Automatic": result.image,
    "denoiser for white noise": white,
}
figure, axes = plt.subplots(1, 3, figsize=(7.32, 2.9), dpi=100)
figure.subplots_adjust(0, 0, 1, 2.4 / 2.9, wspace=6 / 240)
for axis, (title, image) in zip(axes, panels.items(), strict=True):
    axis.imshow(image[crop])
    axis.axis("off")
    axis.set_title(
        f"{title}\n{psnr(image, clean):.2f} dB, SSIM {ssim(image, clean):.3f}", fontsize=9
    )

# %%
# What was removed, four times as strong as it is, beside the noise that was there: the cat should
# not be seen in it. In the fur a part of the noise stays, and a part of the texture goes.

difference = photograph.astype(np.float32)
removed = (difference - result.image)[crop]
truth = (difference - clean)[crop]
residue = (result.image.astype(np.float32) - clean)[crop]
figure, axes = plt.subplots(1, 3, figsize=(7.32, 2.7), dpi=100)
figure.subplots_adjust(0, 0, 1, 2.4 / 2.7, wspace=6 / 240)
panels = {"removed": removed, "noise that was there": truth, "error that is left": residue}
for axis, (title, image) in zip(axes, panels.items(), strict=True):
    axis.imshow(to_uint8(0.5 + 4 * image / 255))
    axis.axis("off")
    axis.set_title(title, fontsize=9)
plt.show()
