"""The denoiser: a small U-Net on the tone-mapped small copy, told how noisy it is."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.nn.initial import he_normal

_CODE: Final = 1.0 / 219.0
IN: Final = 4 + 8 + 3
"""Toned luma and chroma of 2x2 pixels, dark luma, gain, noise."""

RESIDUAL: Final = 4 + 8
"""Residual of luma and chroma of 2x2 pixels."""

SHARES: Final = 4
"""Share of the narrow blur in luma, of the wide one in it, and the same for chroma, for 2x2 pixels together."""

SHARE_SCALE: Final = 20.0
SHARE_BIAS: Final = -1.5
"""Shares are ``sigmoid(scale · output + bias)``: they begin low and alike, and learn faster than residuals."""

TRUST: Final = 8.0 / _CODE
"""Weight of the residual for a gain of 2 and noise of 1."""


class Denoiser(nn.Module):
    """U-Net at half the size of the small copy; how far its answer is followed depends on the noise measured.

    It says for every pixel how much of two blurs to take, and adds a residual. A share of a blur is learnt in a
    fraction of the time that a residual takes to become one, and can do no harm where it is 0.

    Args:
        widths: Channels at 1/2, 1/4 and 1/8 of the small copy.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 48)) -> None:
        super().__init__()
        a, b, c = widths
        self.enter = _pair(IN, a)
        self.down1 = _pair(a, b, stride=2)
        self.down2 = _pair(b, c, stride=2)
        self.middle = nn.Conv2d(c, c, 3, padding=1)
        self.up1 = nn.Conv2d(c, b, 1)
        self.join1 = nn.Conv2d(b, b, 3, padding=1)
        self.up2 = nn.Conv2d(b, a, 1)
        self.join2 = nn.Conv2d(a, a, 3, padding=1)
        self.head = nn.Conv2d(a, RESIDUAL + SHARES, 3, padding=1)
        he_normal(self, last=self.head, std=1e-3)

    def forward(self, toned: Tensor, low: Tensor, gain: Tensor, noise: Tensor) -> Tensor:
        """The tone-mapped picture without its noise, of the same shape.

        Args:
            toned: ``(N, 3, H, W)`` YCbCr.
            low: What it was made of.
            gain: Gain of luma, ``(N, 1, H, W)``.
            noise: Standard deviation of the luma noise of ``low``, ``(N,)``.
        """
        features = pack(toned, low[:, :1], gain, noise, dtype=self.dtype)
        return merge(toned, self.answer(features), gain, noise)

    @property
    def dtype(self) -> torch.dtype:
        """Working precision of the convolutions."""
        return self.head.weight.dtype

    def answer(self, features: Tensor) -> Tensor:
        """What :func:`merge` takes, ``(N, 16, h, w)``, of what :func:`pack` gives, ``(N, 15, h, w)``."""
        enter = self.enter(features)
        half = self.down1(enter)
        deep = self.down2(half)
        deep = F.leaky_relu_(self.middle(deep), 0.1)
        up = _double(self.up1(deep)).add_(half)
        up = F.leaky_relu_(self.join1(up), 0.1)
        up = _double(self.up2(up)).add_(enter)
        up = F.leaky_relu_(self.join2(up), 0.1)
        answer: Tensor = self.head(up)
        return answer


def pack(toned: Tensor, luma: Tensor, gain: Tensor, noise: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Features at half size, padded to a multiple of 4 there, in channels-last order.

    Args:
        toned: ``(N, 3, H, W)`` YCbCr.
        luma: Luma of what it was made of, ``(N, 1, H, W)``.
        gain: Gain of luma, ``(N, 1, H, W)``.
        noise: Standard deviation of the noise of ``luma``, ``(N,)``.
        dtype: Of the features.
    """
    bottom, right = -toned.shape[-2] % 8, -toned.shape[-1] % 8
    planes = torch.cat([toned, luma, gain], 1)
    if bottom or right:
        planes = F.pad(planes, (0, right, 0, bottom), mode="replicate")
    facts = F.avg_pool2d(planes[:, 3:], 2)
    features = [
        F.pixel_unshuffle(planes[:, :1], 2) - 0.45,
        F.pixel_unshuffle(planes[:, 1:3], 2) * 2.0,
        (facts[:, :1].clamp_min(0.0) + 1e-4).sqrt() - 0.4,
        (facts[:, 1:] + 0.1).log2() * 0.2,
        noise_level(noise)[:, None, None, None].expand(-1, -1, *facts.shape[-2:]),
    ]
    # Convolutions of so few channels take several times as long in the usual layout, on CPUs.
    return torch.cat(features, 1).contiguous(memory_format=torch.channels_last).to(dtype)


def noise_level(noise: Tensor) -> Tensor:
    """The noise as the convolutions are told it."""
    return (noise + 1e-5).log2().mul(0.2).add(2.0)


def merge(toned: Tensor, answer: Tensor, gain: Tensor, noise: Tensor) -> Tensor:
    """``toned`` blurred by the shares and corrected by the residual, where something is amplified.

    Where nothing is amplified there is nothing to remove: daylight stays bit for bit what it is. The noise of coded
    pictures measures next to nothing, and is none the less there once it is amplified.

    Args:
        toned: ``(N, 3, H, W)``.
        answer: For 2x2 pixels each, ``(N, 16, ≥ H/2, ≥ W/2)``: residuals, then shares.
        gain: Gain of luma, ``(N, 1, H, W)``.
        noise: Standard deviation of the noise before the gain, ``(N,)``.
    """
    height, width = toned.shape[-2:]
    residual, shares = answer.to(toned.dtype).split([RESIDUAL, SHARES], dim=1)
    residual = F.pixel_shuffle(residual, 2)[..., :height, :width]
    shares = _double(torch.sigmoid(shares * SHARE_SCALE + SHARE_BIAS))[..., :height, :width]
    narrow = F.avg_pool2d(toned, 3, 1, 1, count_include_pad=False)
    wide = F.avg_pool2d(narrow, 5, 1, 2, count_include_pad=False)
    first = torch.cat([shares[:, :1], shares[:, 2:3], shares[:, 2:3]], 1)
    second = torch.cat([shares[:, 1:2], shares[:, 3:], shares[:, 3:]], 1)
    change = first * (narrow - toned) + second * (wide - narrow) + residual
    weight = ((gain - 1.0) * (noise * TRUST)[:, None, None, None]).clamp(0.0, 1.0)
    return torch.addcmul(toned, change, weight)


def _pair(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
    )


def _double(image: Tensor) -> Tensor:
    return F.interpolate(image, scale_factor=2.0, mode="nearest")
