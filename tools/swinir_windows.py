"""Draw the influence of one pixel after each group of SwinIR, for the demo, which has no BasicSR.

BasicSR's SwinIR (lightweight size) with random weights: the pattern comes from its windows, not
from training. ``python tools/swinir_windows.py``
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch
from matplotlib.figure import Figure

from vheatir.basicsr_import import import_basicsr
from vheatir.explain.figures import SWINIR_FIGURE, draw_map, to_png
from vheatir.explain.influence import stage_map
from vheatir.image_io import write_bytes_atomically

_SIDE, _WINDOW = 128, 8


def main() -> None:
    """Write vheatir/explain/swinir_windows.png."""
    import_basicsr()
    from basicsr.archs.swinir_arch import SwinIR

    torch.manual_seed(0)
    net = SwinIR(
        upscale=1, in_chans=3, img_size=_SIDE, window_size=_WINDOW, img_range=1.0,
        depths=[6] * 4, embed_dim=60, num_heads=[6] * 4, mlp_ratio=2, upsampler="",
        resi_connection="1conv",
    ).eval().double()  # fmt: skip
    x = torch.rand(1, 3, _SIDE, _SIDE, dtype=torch.float64)
    stepped = x.clone()
    stepped[..., _SIDE // 2, _SIDE // 2] += 0.1
    seen: dict[int, list[torch.Tensor]] = {}
    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(lambda m, i, out, k=index: seen.setdefault(k, []).append(out))
    with torch.no_grad():
        net(x)
        net(stepped)
    figure = Figure(figsize=(10.4, 3.0), dpi=110)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.86, wspace=0.05)
    here = (_SIDE // 2, _SIDE // 2)
    for index, axis in enumerate(figure.subplots(1, 4)):
        before, after = seen[index]
        change = (after - before)[0].square().sum(-1).sqrt().reshape(_SIDE, _SIDE)
        draw_map(axis, stage_map(f"SwinIR group {index + 1}", change, here), (_SIDE, _SIDE))
        axis.axis("off")
    write_bytes_atomically(SWINIR_FIGURE, to_png(figure))


if __name__ == "__main__":
    main()
