"""Motion-gated recursive filtering: how far each place follows the new frame."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def motion_gate(
    small: Tensor, memory: Tensor, noise: Tensor, *, least: float = 0.1, fresh: Tensor | None = None
) -> Tensor:
    """Weight of the new frame against the memory, 1 where something moved.

    A place has moved where the smoothed difference of the small copies exceeds 2.5 standard deviations of the noise.

    Args:
        small: Small copy of the new frame, ``(3, h, w)`` float32 YCbCr.
        memory: Filtered small copy so far, same shape.
        noise: Standard deviation of its luma noise, 0-dim.
        least: Weight where nothing moves, in (0, 1]; 1 switches the filter off.
        fresh: Above 0 where a new scene begins with ``small``, 0-dim: the memory then has no weight anywhere. None
            where it is no new scene.

    Returns:
        ``(h, w)`` float32 in [``least``, 1].
    """
    # Noise of the new frame alone: the memory's own has been averaged away, so no factor of sqrt(2).
    floor = noise.clamp_min(0.2 / 219.0)
    gate = _mean3(_distance(small, memory)).div_(floor).sub_(2.5).mul_(0.35).clamp_(least, 1.0)
    gate = _mean3(_max3(gate))
    return gate if fresh is None else torch.where(fresh > 0.0, 1.0, gate)


def _distance(small: Tensor, memory: Tensor) -> Tensor:
    """Change of luma and half that of chroma."""
    if small.device.type == "cpu":
        luma, blue, red = map(cv2.absdiff, small.numpy(), memory.numpy())
        return torch.from_numpy(cv2.scaleAdd(cv2.add(blue, red, dst=blue), 0.5, luma, dst=luma))
    change = (small - memory).abs_()
    return change[0] + 0.5 * (change[1] + change[2])


def _mean3(image: Tensor) -> Tensor:
    if image.device.type == "cpu":
        return torch.from_numpy(cv2.blur(image.numpy(), (3, 3), borderType=cv2.BORDER_REPLICATE))
    return F.avg_pool2d(F.pad(image[None, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0, 0]


def _max3(image: Tensor) -> Tensor:
    if image.device.type == "cpu":
        return torch.from_numpy(cv2.dilate(image.numpy(), np.ones((3, 3), np.uint8)))
    return F.max_pool2d(image[None, None], 3, stride=1, padding=1)[0, 0]
