"""The evaluation protocols of the published LLFlow figures, for comparison with them only.

Both published protocols scale the output by a mean of the ground truth before any metric is taken ("GT-mean"), which
is worth several dB and is not available in use. Our own evaluation reports without it first.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_GREY_RGB: Final = (0.299, 0.587, 0.114)
_GREY_SWAPPED: Final = (0.114, 0.587, 0.299)
"""OpenCV's BGR weights as the official test script applies them: to RGB, so red and blue are swapped."""


def to_codes_truncated(picture: Tensor) -> Tensor:
    """8-bit codes as the official scripts make them: clamped, times 255, fraction dropped; ``(N, 3, H, W)`` uint8."""
    return (picture.clamp(0.0, 1.0) * 255.0).to(torch.uint8)


def gt_mean_aligned(picture: Tensor, gt: Tensor) -> Tensor:
    """The paired test's brightness alignment: the picture scaled to a grey mean of the ground truth.

    The two means are not the same statistic: the picture's is over all channels of the float output, not clamped; the
    ground truth's is over its 8-bit grey image with red and blue swapped.

    Args:
        picture: Output of the network, ``(N, 3, H, W)``, not clamped.
        gt: Ground truth, ``(N, 3, H, W)`` uint8.
    """
    ratio = _grey(gt, _GREY_SWAPPED).mean((1, 2)) / 255.0 / picture.mean((1, 2, 3))
    return picture * ratio[:, None, None, None]


def training_validation(picture: Tensor, gt: Tensor) -> Tensor:
    """PSNR in dB, ``(N,)``, as the official training loop picks its checkpoints: grey means of rounded images.

    Args:
        picture: Output of the network, ``(N, 3, H, W)``, not clamped.
        gt: Ground truth, ``(N, 3, H, W)`` in [0, 1].
    """
    codes, truth = ((image.clamp(0.0, 1.0) * 255.0).round() for image in (picture, gt))
    ratio = _grey(truth, _GREY_RGB).mean((1, 2)) / _grey(codes, _GREY_RGB).mean((1, 2))
    aligned = (picture.clamp(0.0, 1.0) * ratio[:, None, None, None]).clamp(0.0, 1.0)
    return _psnr(aligned, gt)


def psnr(picture: Tensor, gt: Tensor) -> Tensor:
    """PSNR in dB of 8-bit RGB pictures, ``(N,)``; both ``(N, 3, H, W)`` uint8."""
    return _psnr(picture.double() / 255.0, gt.double() / 255.0)


def _psnr(picture: Tensor, gt: Tensor) -> Tensor:
    return -10.0 * (picture.double() - gt.double()).square().flatten(1).mean(1).log10()


def _grey(picture: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """An 8-bit grey image, as floats: ``(N, 3, H, W)`` codes → ``(N, H, W)``."""
    grey = sum(weight * channel for weight, channel in zip(weights, picture.double().unbind(1), strict=True))
    assert isinstance(grey, Tensor)
    return grey.round()
