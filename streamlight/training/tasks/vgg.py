"""Features of VGG networks, for perceptual losses (Simonyan & Zisserman, arXiv:1409.1556).

Their weights are not ours to ship and are not fetched: a recipe names a file, such as torchvision's
``vgg16-397923af.pth`` or ``vgg19-dcbb9e9d.pth``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from streamlight.errors import ModelError
from streamlight.models.weights import read_weights

_LAYERS: Final[dict[int, tuple[int, ...]]] = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each block, by the number of layers with weights."""

_WIDTHS: Final = (64, 128, 256, 512, 512)
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)


class VGGFeatures:
    """Frozen VGG features of pictures.

    Not a module: its weights are neither trained nor part of a checkpoint.

    Args:
        path: State dict with torchvision's names, ``features.0.weight`` and so on.
        depth: 16 or 19.
        taps: Indices of the layers (torchvision's numbering) whose outputs are wanted.
        normalize: Whether pictures are normalised by ImageNet's mean and standard deviation first.
        device: Where it runs.

    Raises:
        ModelError: The file cannot be read, or is no such network.
    """

    def __init__(
        self, path: Path, *, depth: int, taps: tuple[int, ...], normalize: bool, device: torch.device | str
    ) -> None:
        self._taps, self._normalize = taps, normalize
        layers = _layers(depth)
        self._layers = nn.Sequential(*layers[: max(taps) + 1])
        tensors = read_weights(path).tensors
        known = {f"features.{name}" for name in nn.Sequential(*layers).state_dict()}
        if surplus := sorted(name for name in tensors if name.startswith("features.") and name not in known):
            raise ModelError(f"{path}: holds no VGG{depth}: it has no {surplus[0]}")
        wanted = {name: f"features.{name}" for name in self._layers.state_dict()}
        for name, stored in wanted.items():
            shape = tuple(self._layers.state_dict()[name].shape)
            if stored not in tensors or tuple(tensors[stored].shape) != shape:
                raise ModelError(f"{path}: holds no VGG{depth}: {stored} of shape {shape} expected")
        self._layers.load_state_dict({name: tensors[stored] for name, stored in wanted.items()})
        self._layers.requires_grad_(False).to(device)

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Features of ``(N, 3, H, W)`` RGB in [0, 1], in the order of the taps; gradients go through."""
        x, found = pictures, []
        if self._normalize:
            mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
            x = (x - mean) / std
        for index, layer in enumerate(self._layers):
            x = layer(x)
            if index in self._taps:
                found.append(x)
        return found


def perceptual_features(path: Path, *, device: torch.device | str) -> VGGFeatures:
    """What GLARE compares pictures by: VGG16 after relu1_2, relu2_2 and relu3_3, pictures not normalised."""
    return VGGFeatures(path, depth=16, taps=(3, 8, 15), normalize=False, device=device)


def semantic_features(path: Path, *, device: torch.device | str) -> VGGFeatures:
    """What GLARE ties its codes to: VGG19 after relu3_4, 256 channels at a quarter of the size."""
    return VGGFeatures(path, depth=19, taps=(17,), normalize=True, device=device)


def _layers(depth: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for count, width in zip(_LAYERS[depth], _WIDTHS, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers
