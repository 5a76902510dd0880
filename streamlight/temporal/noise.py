"""How noisy the dark picture is, estimated on its small copy."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CODE: Final = 1.0 / 219.0
"""One 8-bit luma code of limited range, in normalised luma."""

_FLOOR, _CEILING = 0.06 * CODE, 2.0 * CODE
_RATE: Final = 0.1

# Standard deviation of [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] on unit white noise (Immerkaer, CVIU 64(2), 1996).
_LAPLACIAN_STD: Final = 6.0
_SECOND_DIFFERENCE: Final = np.array([-1.0, 2.0, -1.0], np.float32)
_BLOCK: Final = 8
_QUIET_SHARE: Final = 0.10
_QUIET_BIAS: Final = 1.4
"""The quietest tenth of all blocks is quieter than the noise by about this factor."""

_PERCENTILE_25: Final = 0.319
"""25th percentile of the absolute value of a unit normal variable."""


def estimate_noise(
    luma: Tensor, previous: Tensor | None = None, *, before: Tensor | None = None, fresh: Tensor | None = None
) -> Tensor:
    """Standard deviation of the noise in ``luma``.

    The smaller of a spatial and a temporal estimate: the first looks at the quietest blocks, because texture passes for
    noise, the second at the quietest pixels, because motion does; noise is what both see. A median difference is not
    enough: a pan would pass for noise, and everything behind it would ghost.

    Args:
        luma: ``(h, w)`` float, [0, 1], of the unfiltered small copy.
        previous: The same of the frame before, or None.
        before: Estimate so far; the result moves a tenth of the way.
        fresh: Above 0 where a new scene begins with ``luma``, 0-dim: ``previous`` and ``before`` then count for
            nothing. For devices, where nobody can ask; None where it is no new scene.

    Returns:
        0-dim tensor, in units of ``luma``, between 0.06 and 2 codes of 8 bit.
    """
    if min(luma.shape) < 3:
        return luma.new_full((), _FLOOR)  # too small to tell
    response = _laplacian(luma)
    side = min(_BLOCK, *response.shape)
    energy = F.avg_pool2d(response.square()[None], side)
    estimate = _percentile(energy, _QUIET_SHARE).sqrt() * (_QUIET_BIAS / _LAPLACIAN_STD)
    if previous is not None and previous.shape == luma.shape:
        change = (luma[::4, ::4] - previous[::4, ::4]).abs()
        # The difference of two frames holds the noise twice.
        both = estimate.minimum(_percentile(change, 0.25) / (2.0**0.5 * _PERCENTILE_25))
        estimate = both if fresh is None else torch.where(fresh > 0.0, estimate, both)
    estimate = estimate.clamp(_FLOOR, _CEILING)
    if before is None:
        return estimate
    nearer = before + _RATE * (estimate - before)
    return nearer if fresh is None else torch.where(fresh > 0.0, estimate, nearer)


def _percentile(values: Tensor, share: float) -> Tensor:
    flat = values.flatten()
    return flat.kthvalue(max(1, round(share * flat.numel()))).values


def _laplacian(luma: Tensor) -> Tensor:
    """Second differences across and along, ``(h - 2, w - 2)``."""
    if _is_plain(luma):
        mask = _SECOND_DIFFERENCE
        return torch.from_numpy(cv2.sepFilter2D(luma.numpy(), -1, mask, mask))[1:-1, 1:-1]
    rows = luma[1:-1] * 2.0 - luma[:-2] - luma[2:]
    return rows[:, 1:-1] * 2.0 - rows[:, :-2] - rows[:, 2:]


def _is_plain(image: Tensor) -> bool:
    """Whether OpenCV, which is several times as fast, can work on it."""
    return image.device.type == "cpu" and image.dtype == torch.float32 and not image.requires_grad


def coarse_luma(luma: Tensor, *, long_side: int = 192) -> Tensor:
    """``luma`` ``(h, w)`` area-averaged so that its long side is at most about ``long_side``."""
    factor = max(1, max(luma.shape) // long_side)
    height, width = luma.shape
    if _is_plain(luma) and height % factor == 0 and width % factor == 0:
        size = (width // factor, height // factor)
        return torch.from_numpy(cv2.resize(luma.numpy(), size, interpolation=cv2.INTER_AREA))
    return F.avg_pool2d(luma[None, None], factor, ceil_mode=True, count_include_pad=False)[0, 0]
