"""Group normalisation whose statistics can be trusted on large pictures."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

_SMALL: Final = 2048
"""Positions up to which a change of layout costs less than the care."""

_BAND_BYTES: Final = 4 * 2**20
"""Size of a band of rows: it stays in the cache while its statistics are taken."""


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He, arXiv:1803.08494).

    On the CPU, for channels-last tensors, torch adds up values and their squares one by one in float32 and takes the
    difference: with many pixels, or a mean of several deviations, the result is wrong in the fourth digit. Inference in
    float32 therefore takes the statistics here: of bands of rows, after a rough mean is taken off, added up in float64.
    Gradients and the short types keep torch's kernel.

    On other devices torch's kernel wants channels outermost, so that a channels-last tensor would be turned around
    before and after every normalisation; in inference it is therefore done here, without.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, …)`` → the same shape and layout."""
        if x.ndim != 4 or torch.is_grad_enabled() or not _channels_innermost(x):
            return super().forward(x)
        if x.device.type != "cpu":
            return self._on_device(x)
        if x.dtype != torch.float32:
            return super().forward(x)
        if x.shape[2] * x.shape[3] <= _SMALL:
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        assert self.affine
        scale, shift = _coefficients(x, self.num_groups, self.eps)
        scale = scale * self.weight.double()
        shift = shift * self.weight.double() + self.bias.double()
        per_channel = (*x.shape[:2], 1, 1)
        return torch.addcmul(shift.float().view(per_channel), x, scale.float().view(per_channel))

    def _on_device(self, x: Tensor) -> Tensor:
        assert self.affine
        scale, shift = _from_moments(*_device_moments(x), self.num_groups, self.eps)
        scale = scale * self.weight
        shift = shift * self.weight + self.bias
        per_channel = (*x.shape[:2], 1, 1)
        # In float32 up to the result, which may be narrower: rounded coefficients would shift whole channels.
        return torch.addcmul(shift.view(per_channel), x, scale.view(per_channel), out=torch.empty_like(x))


def _channels_innermost(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _device_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``(N, C, H, W)``, ``(N, C)`` float32 at least."""
    if x.dtype in (torch.float16, torch.bfloat16):  # summed in float32 without a copy in it
        mean = x.mean((2, 3), dtype=torch.float32)
        square = torch.linalg.vector_norm(x, 2, (2, 3), dtype=torch.float32).square() / (x.shape[2] * x.shape[3])
        return mean, (square - mean.square()).clamp_min(0.0)
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return mean, variance


def _coefficients(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Per picture and channel, ``(N, C)`` float64: a and b so that ``a·x + b`` has mean 0 and variance 1 per group."""
    mean, variance = (torch.stack(part) for part in zip(*(_moments(picture) for picture in x.split(1)), strict=True))
    return _from_moments(mean, variance, groups, eps)


def _from_moments(mean: Tensor, variance: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """The same from mean and variance of every channel, ``(N, C)`` each."""
    mean, variance = mean.unflatten(1, (groups, -1)), variance.unflatten(1, (groups, -1))
    center = mean.mean(2, keepdim=True)
    # Channels of a group hold equally many values: the variance is the mean of theirs, and that of their means.
    scale = ((variance + (mean - center) ** 2).mean(2, keepdim=True) + eps).rsqrt().expand_as(mean)
    return scale.flatten(1), (-center * scale).flatten(1)


def _moments(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``(1, C, H, W)``, ``(C,)`` float64."""
    channels, height, width = picture.shape[1:]
    rough = picture[:, :, ::16, ::16].mean((2, 3), keepdim=True)
    eps = 1e-12
    means, variances, shares = [], [], []
    for band in picture.split(max(1, _BAND_BYTES // (4 * width * channels)), dim=2):
        size = band.shape[2] * width
        # One group per channel; the normalised band itself is not wanted, it is the price of the kernel.
        _, mean, deviation = torch.native_group_norm(band - rough, None, None, 1, channels, size, channels, eps)
        means.append(mean[0].double())
        variances.append(deviation[0].double() ** -2 - eps)
        shares.append(band.shape[2] / height)
    mean, variance = torch.stack(means), torch.stack(variances)
    share = torch.tensor(shares, dtype=torch.float64, device="cpu")[:, None]
    whole = (share * mean).sum(0)
    return whole + rough.flatten().double(), (share * (variance + (mean - whole) ** 2)).sum(0)
