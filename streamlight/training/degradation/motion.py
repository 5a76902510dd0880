"""Clips out of stills: a window that moves over a photograph or a panorama."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def moving_view(
    image: Tensor,
    *,
    frames: int,
    size: tuple[int, int],
    start: tuple[float, float],
    velocity: tuple[float, float],
    zoom: float = 1.0,
) -> Tensor:
    """A window that pans over a picture; degraded as a clip it has moving content under independent noise.

    Args:
        image: ``(C, H, W)`` float.
        frames: Length of the clip.
        size: ``(height, width)`` of the window in pixels, at most the picture's.
        start: ``(y, x)`` of its first top left corner in pixels.
        velocity: ``(y, x)`` pixels per frame, fractions too; the window stops at the picture's border.
        zoom: Factor of the window's side from frame to frame, about its centre: below 1 moves in.

    Returns:
        ``(frames, C, height, width)``, bilinearly interpolated where the window lies between pixels.

    Raises:
        ValueError: The window does not fit into the picture, or there are no frames.
    """
    height, width = image.shape[-2:]
    if frames < 1 or not (1 <= size[0] <= height and 1 <= size[1] <= width) or zoom <= 0.0:
        raise ValueError(f"a window of {size} and {frames} frames does not fit into {height}x{width}")
    views = []
    for index in range(frames):
        side = min(zoom**index, height / size[0], width / size[1])
        rows = _axis(size[0], height, start[0] + index * velocity[0], side)
        columns = _axis(size[1], width, start[1] + index * velocity[1], side)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
        views.append(
            F.grid_sample(image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)
        )
    return torch.cat(views)


def perspective_view(
    panorama: Tensor, *, yaw: float, pitch: float, field_of_view: float, size: tuple[int, int]
) -> Tensor:
    """A straight-lined view into an equirectangular panorama.

    Args:
        panorama: ``(C, H, 2 H)`` float; its middle column looks ahead.
        yaw: Degrees to the right.
        pitch: Degrees upwards.
        field_of_view: Horizontal, degrees, below 180.
        size: ``(height, width)`` in pixels.

    Returns:
        ``(C, height, width)``.
    """
    height, width = size
    reach = math.tan(math.radians(field_of_view) / 2.0)
    x = (2.0 * (torch.arange(width) + 0.5) / width - 1.0) * reach
    y = (2.0 * (torch.arange(height) + 0.5) / height - 1.0) * reach * height / width
    down, right = torch.meshgrid(y, x, indexing="ij")
    up, ahead = -down, torch.ones_like(down)
    tilt = math.radians(pitch)
    ahead, up = ahead * math.cos(tilt) - up * math.sin(tilt), ahead * math.sin(tilt) + up * math.cos(tilt)
    longitude = torch.atan2(right, ahead) + math.radians(yaw)
    latitude = torch.atan2(up, torch.hypot(right, ahead))
    # One column more on either side, so that interpolation goes through the seam.
    wrapped = torch.cat([panorama[..., -1:], panorama, panorama[..., :1]], dim=-1)
    columns = panorama.shape[-1]
    place = (longitude / (2.0 * math.pi) + 0.5) % 1.0 * columns + 1.0
    grid = torch.stack([2.0 * place / (columns + 2) - 1.0, -2.0 * latitude / math.pi], dim=-1)
    grid = grid[None].to(panorama.dtype)
    return F.grid_sample(wrapped[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def _axis(size: int, full: int, start: float, side: float) -> Tensor:
    """Sampling positions of a window along one axis, as `grid_sample` counts them."""
    centre = start + size / 2.0
    span = size * side
    first = min(max(centre - span / 2.0, 0.0), full - span)
    return 2.0 * (first + (torch.arange(size) + 0.5) * side) / full - 1.0
