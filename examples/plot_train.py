"""
Train a tiny network
====================

Seven hundred iterations of a network with 72,000 parameters, on photographs of scikit-image.
On the command line, this is ``python vheatir/train.py -opt options/quickstart.yml``, which takes
three minutes and goes further. Training needs the extra ``train``.
"""

# sphinx_gallery_thumbnail_number = 2

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from vheatir import Restorer, psnr, ssim
from vheatir.basicsr_import import import_basicsr
from vheatir.bundled import heldout_photographs
from vheatir.degradations import benchmark_noise
from vheatir.metrics import to_uint8
from vheatir.training.options import load_options

import_basicsr()  # before anything that imports BasicSR

from vheatir.training.distributed import start_processes
from vheatir.training.experiment import Experiment
from vheatir.training.loop import Trainer

# %%
# An option file describes the run; any option can be overridden, as by ``--force_yml`` on the
# command line.

folder = Path(tempfile.mkdtemp())
options = load_options(
    "options/quickstart.yml",
    [
        f"path:experiments_root={folder}",
        "network_g:channels=[16, 24, 32]",
        "datasets:train:gt_size=48",
        "train:optim_g:lr=4e-3",
        "train:total_iter=700",
        "train:max_minutes=~",
        "val:val_freq=700",
        "val:save_img=false",
    ],
)

# %%
# The trainer is what the command runs. It validates on two photographs of which it has seen
# nothing, and writes weights that name their network, task and level.

processes = start_processes("none")
experiment = Experiment(options, processes.is_main)
trainer = Trainer(options, experiment, processes)
experiment.open(resuming=False)
trainer.run()
weights = trainer.export(folder / "tiny.safetensors")
experiment.close()

# %%
# The loss falls quickly at first.

iterations, losses = np.array(trainer.losses).T[[0, 2]]
figure, axis = plt.subplots(figsize=(7.3, 2.6), dpi=100, layout="constrained")
axis.plot(iterations, losses, color="#d9480f", marker="o", ms=3)
axis.set(xlabel="iteration", ylabel="L1 loss", yscale="log")
axis.grid(alpha=0.3, which="both")

# %%
# The weights are used like the released ones, which have seen many more photographs.

clean = heldout_photographs()["coffee"][60:300, 180:420]
noisy = benchmark_noise(clean.astype(np.float32) / 255, 15)
panels = {
    "noise of sigma 15": noisy,
    "after 700 iterations": Restorer(weights, "cpu").restore(noisy, 15),
    "U small, as released": Restorer("denoise_color_small", "cpu").restore(noisy, 15),
}
figure, axes = plt.subplots(1, 3, figsize=(7.32, 2.9), dpi=100)
figure.subplots_adjust(0, 0, 1, 2.4 / 2.9, wspace=6 / 240)
for axis, (title, image) in zip(axes, panels.items(), strict=True):
    pixels = to_uint8(image)
    axis.imshow(pixels)
    axis.axis("off")
    axis.set_title(
        f"{title}\n{psnr(pixels, clean):.2f} dB, SSIM {ssim(pixels, clean):.3f}", fontsize=9
    )
plt.show()
