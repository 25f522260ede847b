"""Convert a network that takes a level to a blind one, to initialise a blind training.

``python tools/fold_level.py denoise_color_small --level 25 -o start.safetensors`` writes weights of
the same network without its level plane. A constant plane adds a constant to the first convolution,
so it is folded into that bias. The results differ only within one pixel of the border, where the
convolution pads the plane with zeros.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse

import torch
from torch import nn

from vheatir.archs import build_network, network_config
from vheatir.cli import run_entry_point
from vheatir.errors import VHeatIRError
from vheatir.weights import LoadedModel, load_weights, save_weights
from vheatir.zoo import load_model


def fold_level(model: LoadedModel, level: float) -> nn.Module:
    """Return the network of ``model`` without a level input, equivalent to it at ``level``.

    Raises:
        VHeatIRError: the network takes no level.
    """
    config = network_config(model.network)
    if not model.network.takes_level:
        raise VHeatIRError(f"{model.path} takes no level: nothing to fold")
    blind = build_network({**config, "level_scale": None})
    state = dict(model.network.state_dict())
    weight = state["conv_first.weight"]
    area = config["downscale"] ** 2
    # A pixel-unshuffle keeps the planes of a channel together; those of the level come last.
    state["conv_first.weight"] = weight[:, :-area].clone()
    added = weight[:, -area:].sum((1, 2, 3)) * (level / config["level_scale"])
    state["conv_first.bias"] = state["conv_first.bias"] + added
    blind.load_state_dict(state)
    return blind.eval()


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a released model's name, or a .safetensors file")
    parser.add_argument("--level", type=float, required=True, help="sigma on 0..255")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    return run_entry_point(lambda: _run(arguments), "nothing was written")


def _run(arguments: argparse.Namespace) -> int:
    file = arguments.model.endswith(".safetensors")
    model = load_weights(arguments.model) if file else load_model(arguments.model)
    with torch.no_grad():
        network = fold_level(model, arguments.level)
    info = {"task": "photo", "level": None, "name": f"{model.info['name']}, level folded"}
    save_weights(arguments.output, network, info)
    sys.stdout.write(f"wrote {arguments.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
