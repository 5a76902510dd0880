"""LLFlow's conditional encoder: colour map and conditioning features of the dark picture (section 3, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.llflow.config import INPUT_CHANNELS, LLFlowConfig
from streamlight.models.nn.rrdb import RRDB, SLOPE


@dataclass(slots=True)
class Encoding:
    """What the encoder says about a dark picture of H x W pixels.

    Attributes:
        color_map: Predicted colour map, ``(N, 3, H, W)`` in (0, 1): the mean of the latent, before space-to-depth.
        conditions: Conditioning features of levels 1, 2, 3: ``(N, F, H/2, W/2)``, ``(…, H/4, …)``, ``(…, H/8, …)``.
    """

    color_map: Tensor
    conditions: tuple[Tensor, ...]

    def wide(self) -> Encoding:
        """In float32, where it is narrower."""
        color_map, *conditions = (
            x if x.dtype == torch.float64 else x.float() for x in (self.color_map, *self.conditions)
        )
        return Encoding(color_map, tuple(conditions))


class ConditionalEncoder(nn.Module):
    """RRDB encoder over the logarithm, the equalised picture, the colour map and the noise map of the input.

    Args:
        config: Hyper-parameters.
    """

    def __init__(self, config: LLFlowConfig) -> None:
        super().__init__()
        nf = config.nf
        self.taps = config.taps
        self.conv_first = nn.Conv2d(INPUT_CHANNELS + 6, nf, 3, padding=1)
        self.conv_second = nn.Conv2d(nf, nf, 3, padding=1)
        self.RRDB_trunk = nn.ModuleList(RRDB(nf, config.growth) for _ in range(config.nb))
        self.trunk_conv = nn.Conv2d(nf, nf, 3, padding=1)
        self.downconv1 = nn.Conv2d(nf, nf, 3, padding=1)
        self.downconv2 = nn.Conv2d(nf, nf, 3, padding=1)
        self.fine_tune_color_map = nn.Sequential(nn.Conv2d(nf, 3, 1), nn.Sigmoid())

    def forward(self, lq: Tensor) -> Encoding:
        """Encode ``lq``, ``(N, 6, H, W)``, H and W multiples of 8: ``ln(low + 1e-3)``, then the equalised picture."""
        color = raw_color_map(lq)
        features = F.leaky_relu(self.conv_first(torch.cat([lq, color, noise_map(color)], 1)), SLOPE)
        head = F.max_pool2d(self.conv_second(features), 2)
        trunk, stacked = head, []
        for index, block in enumerate(self.RRDB_trunk):
            trunk = block(trunk)
            if index in self.taps:
                stacked.append((self.taps.index(index), trunk))
        half = head + self.trunk_conv(trunk)
        quarter = F.leaky_relu(self.downconv1(F.avg_pool2d(half, 2)), SLOPE)
        eighth = self.downconv2(F.avg_pool2d(quarter, 2))
        taps = [features for _, features in sorted(stacked, key=lambda item: item[0])]
        return Encoding(
            color_map=self.fine_tune_color_map(F.interpolate(half, scale_factor=2, mode="nearest")),
            conditions=tuple(
                torch.cat([own, *(tap[:, :, ::stride, ::stride] for tap in taps)], 1)
                for own, stride in ((half, 1), (quarter, 2), (eighth, 4))
            ),
        )


def raw_color_map(lq: Tensor) -> Tensor:
    """Colour map of the input: each channel over the sum of channels (Retinex-like invariant), ``(N, 3, H, W)``."""
    low = lq[:, :3].exp()
    return low / (low.sum(1, keepdim=True) + 1e-4)


def color_map_of(picture: Tensor) -> Tensor:
    """Colour map of a normally exposed picture, ``(N, 3, H, W)`` in [0, 1]: its latent lies around it."""
    return picture / (picture.sum(1, keepdim=True) + 1e-4)


def noise_map(color: Tensor) -> Tensor:
    """Larger of the central differences along height and width, zeros beyond the border, ``(N, 3, H, W)``."""
    padded = F.pad(color, (1, 1, 1, 1))
    along_height = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
    along_width = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
    return torch.maximum(along_height.abs(), along_width.abs())
