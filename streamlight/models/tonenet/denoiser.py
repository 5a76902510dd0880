"""The denoiser: a small U-Net on the tone-mapped small copy, told how noisy it is."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CODE: Final = 1.0 / 219.0
_IN: Final = 4 + 8 + 3
"""Toned luma and chroma of 2x2 pixels, dark luma, gain, noise."""

_OUT: Final = 4 + 8


class Denoiser(nn.Module):
    """Residual U-Net at half the size of the small copy; its output is weighted by the noise measured.

    Args:
        widths: Channels at 1/2, 1/4 and 1/8 of the small copy.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 48)) -> None:
        super().__init__()
        a, b, c = widths
        self.enter = _pair(_IN, a)
        self.down1 = _pair(a, b, stride=2)
        self.down2 = _pair(b, c, stride=2)
        self.middle = nn.Conv2d(c, c, 3, padding=1)
        self.up1 = nn.Conv2d(c, b, 1)
        self.join1 = nn.Conv2d(b, b, 3, padding=1)
        self.up2 = nn.Conv2d(b, a, 1)
        self.join2 = nn.Conv2d(a, a, 3, padding=1)
        self.head = nn.Conv2d(a, _OUT, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=1e-2)

    def forward(self, toned: Tensor, low: Tensor, gain: Tensor, noise: Tensor) -> Tensor:
        """The tone-mapped picture without its noise, of the same shape.

        Args:
            toned: ``(N, 3, H, W)`` YCbCr.
            low: What it was made of.
            gain: Gain of luma, ``(N, 1, H, W)``.
            noise: Standard deviation of the luma noise of ``low``, ``(N,)``.
        """
        height, width = toned.shape[-2:]
        x = self._pack(toned, low[:, :1], gain, noise).to(self.head.weight.dtype)
        enter = self.enter(x)
        half = self.down1(enter)
        deep = self.down2(half)
        deep = F.leaky_relu(self.middle(deep), 0.1)
        up = _double(self.up1(deep)) + half
        up = F.leaky_relu(self.join1(up), 0.1)
        up = _double(self.up2(up)) + enter
        up = F.leaky_relu(self.join2(up), 0.1)
        residual = F.pixel_shuffle(self.head(up).to(toned.dtype), 2)[..., :height, :width]
        # Where nothing is amplified there is nothing to remove: daylight stays bit for bit what it is. The noise of
        # coded pictures measures next to nothing, and is none the less there once it is amplified.
        weight = ((gain - 1.0) * (noise * (8.0 / _CODE))[:, None, None, None]).clamp(0.0, 1.0)
        return torch.addcmul(toned, residual, weight)

    @staticmethod
    def _pack(toned: Tensor, luma: Tensor, gain: Tensor, noise: Tensor) -> Tensor:
        """Features at half size, padded to a multiple of 4 there."""
        bottom, right = -toned.shape[-2] % 8, -toned.shape[-1] % 8
        planes = torch.cat([toned, luma, gain], 1)
        if bottom or right:
            planes = F.pad(planes, (0, right, 0, bottom), mode="replicate")
        facts = F.avg_pool2d(planes[:, 3:], 2)
        level = (noise + 1e-5).log2().mul(0.2)[:, None, None, None].add(2.0)
        features = [
            F.pixel_unshuffle(planes[:, :1], 2) - 0.45,
            F.pixel_unshuffle(planes[:, 1:3], 2) * 2.0,
            (facts[:, :1].clamp_min(0.0) + 1e-4).sqrt() - 0.4,
            (facts[:, 1:] + 0.1).log2() * 0.2,
            level.expand(-1, -1, *facts.shape[-2:]),
        ]
        # Convolutions of so few channels take several times as long in the usual layout, on CPUs.
        return torch.cat(features, 1).contiguous(memory_format=torch.channels_last)


def _pair(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
    )


def _double(image: Tensor) -> Tensor:
    return F.interpolate(image, scale_factor=2.0, mode="nearest")
