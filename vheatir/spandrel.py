"""Load vHeatIR's networks with spandrel: ``vheatir.spandrel.install()``.

Afterwards spandrel's ``ModelLoader`` reads the ``.safetensors`` files of this package and the
``.pth`` files of ``vheatir export``::

    import spandrel, vheatir.spandrel

    vheatir.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("denoise_color_small.safetensors")
    model.level = 25  # sigma of the noise, only for models that take one
    restored = model(image)  # (1, C, H, W) in [0, 1]

spandrel passes on the state dict alone, so the network is deduced from the names and shapes of the
weights: see :mod:`vheatir.archs.detect` for what they do not show.

Imports neither OpenCV nor scikit-image, for programs that bring their own packages.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vheatir.archs import ARCHS, build_network, network_config
from vheatir.archs.detect import detect_config
from vheatir.errors import VHeatIRError

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchRegistry,
        ArchSupport,
        ImageModelDescriptor,
        SizeRequirements,
        StateDict,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"vheatir.spandrel needs the package {error.name!r}, which is not installed: "
        "pip install 'vheatir[integrations]'",
        name=error.name,
    ) from None

#: Level of a model that takes one, until it is set.
DEFAULT_LEVEL = 15.0


class LevelModelDescriptor(ImageModelDescriptor[nn.Module]):
    """spandrel's descriptor of a model that takes a level: the sigma of the noise.

    The level is not estimated from the image: programs pass tiles, which would get different ones.

    Args:
        model: network called as ``model(image, level)``.
        state_dict: its weights.
        arguments: those of :class:`spandrel.ImageModelDescriptor`.
    """

    def __init__(self, model: nn.Module, state_dict: StateDict, **arguments: Any) -> None:
        super().__init__(model, state_dict, **arguments, call_fn=self._restore)
        self._level = DEFAULT_LEVEL

    @property
    def level(self) -> float:
        """Standard deviation of the noise on the scale 0..255; at first 15.

        The released models are trained for 0 to 55. Setting it raises VHeatIRError unless it is a
        number from 0.
        """
        return self._level

    @level.setter
    def level(self, level: float) -> None:
        try:
            value = math.nan if isinstance(level, str) else float(level)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value < math.inf:  # also rejects NaN
            raise VHeatIRError(f"level {level!r}: give the sigma of the noise, a number from 0")
        self._level = value

    def _restore(self, model: nn.Module, image: Tensor) -> Tensor:
        restored: Tensor = model(image, self._level)
        return restored


class VHeatIRArch(Architecture[nn.Module]):
    """A network of the package, as an architecture of spandrel.

    Args:
        kind: ``"VHeatIR"`` or ``"VHeatIRUNet"``, also the ID.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(id=kind, detect=self._is_own)

    def _is_own(self, state_dict: StateDict) -> bool:
        """Whether a network of this kind has exactly these weights, by name and shape."""
        if not all(isinstance(value, Tensor) for value in state_dict.values()):
            return False
        try:
            config = detect_config(state_dict)
            if config["type"] != self.id:
                return False
            with torch.device("meta"):
                expected = build_network(config).state_dict()
        except VHeatIRError:
            return False
        return {name: tensor.shape for name, tensor in expected.items()} == {
            name: tensor.shape for name, tensor in state_dict.items()
        }

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[nn.Module]:
        """Build the network of weights that :meth:`detect` accepts, in float32.

        Returns:
            A :class:`LevelModelDescriptor` if it takes a level.

        Raises:
            VHeatIRError: the weights are of another network.
        """
        config = detect_config(state_dict)
        network = build_network(config)
        # an attribute of spandrel's own networks
        network.hyperparameters = network_config(network)  # type: ignore[assignment]
        takes_level = bool(network.takes_level)
        descriptor = LevelModelDescriptor if takes_level else ImageModelDescriptor[nn.Module]
        return descriptor(
            network,
            state_dict,
            architecture=self,
            purpose="Restoration",
            tags=_size_tags(config),
            supports_half=True,
            supports_bfloat16=True,
            scale=1,
            input_channels=config["in_chans"],
            output_channels=config["out_chans"],
            # The networks pad images themselves. spandrel's padding of images smaller than a few
            # pixels is another.
            size_requirements=SizeRequirements(),
        )


def _size_tags(config: dict[str, Any]) -> list[str]:
    """Return the name of the size of a network, such as ``"small"``, if it has one."""
    sizes: dict[str, dict[str, Any]] = getattr(ARCHS[config["type"]], "SIZES", {})
    return [
        name
        for name, arguments in sizes.items()
        if all(config.get(key) == value for key, value in arguments.items())
    ]


#: Both networks, as architectures of spandrel.
REGISTRY = ArchRegistry()
REGISTRY.add(
    *(ArchSupport.from_architecture(VHeatIRArch(kind)) for kind in ("VHeatIR", "VHeatIRUNet"))
)


def install() -> list[ArchSupport]:
    """Add both networks to spandrel's ``MAIN_REGISTRY``; repeated calls change nothing.

    Returns:
        What was added: an architecture whose ID is registered already stays.
    """
    added: list[ArchSupport] = MAIN_REGISTRY.add(*REGISTRY, ignore_duplicates=True)
    return added
