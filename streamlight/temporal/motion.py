"""Motion between two dark, noisy frames, and how to carry a picture or a latent along it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_LONG_SIDE: Final = 320
"""Motion is estimated on pictures halved until their long side is at most this."""

_STILL: Final = 5.0
"""A frame is still where no smoothed difference exceeds this many standard deviations of its noise."""

_BENEFIT: Final = 3.0
"""Motion must explain more than this many noise variances of the difference; less is noise that was fitted."""

_SURE, _LOST = 4.0, 16.0
"""Mean squared residual, in noise variances, up to which a match is believed, and from which it is not."""

_LEFT: Final = 0.055
"""Share of the variance of white noise that :func:`_smooth` leaves: the sum of its squared weights."""

_FLOOR: Final = 0.25 / 219.0
"""Error of 8-bit, compressed pictures that no smoothing removes, as a standard deviation; noise dithers it away."""

_AROUND: Final = 61
"""Side of the surroundings whose residual tells how noisy a place is."""

_LEVELS, _ROUNDS, _WINDOW = 3, 3, 9

_OF_THREAD = threading.local()
"""OpenCV's search keeps buffers and releases the GIL: some for each thread."""

_SIZES: Final = 8
"""Sizes of picture that a thread keeps a search for."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Where the content of a frame was before.

    Attributes:
        flow: ``(2, h, w)`` float32, displacement (x, y) in its own pixels: ``new(p) ≈ old(p + flow(p))``.
        confidence: ``(h, w)`` in [0, 1]; 0 where the content was hidden, outside, or is not found.
        still: Whether nothing moved at all, as far as the host knows; carrying anything is then a waste.
    """

    flow: Tensor
    confidence: Tensor
    still: bool = False

    @classmethod
    def none(cls, height: int, width: int, *, device: torch.device | str = "cpu") -> Motion:
        """A still frame: no displacement, full confidence."""
        return cls(torch.zeros(2, height, width, device=device), torch.ones(height, width, device=device), still=True)

    def unless(self, fresh: Tensor) -> Motion:
        """This motion, or, where ``fresh`` (0-dim) is above 0, none that can be trusted: a new scene has begun."""
        new = fresh > 0.0
        return Motion(torch.where(new, 0.0, self.flow), torch.where(new, 0.0, self.confidence))

    def resized(self, height: int, width: int) -> Motion:
        """The same motion on a picture or latent of another size, displacements in its pixels."""
        if self.confidence.shape == (height, width):
            return self
        mode = "area" if height < self.confidence.shape[0] else "bilinear"
        confidence = F.interpolate(self.confidence[None, None], (height, width), mode=mode)[0, 0]
        return Motion(_resize_flow(self.flow, height, width), confidence, self.still)

    def after(self, earlier: Motion) -> Motion:
        """This motion (b to c) behind an ``earlier`` one (a to b): from a to c, without blurring in between."""
        if self.still or earlier.still:
            return earlier if self.still else self
        earlier = earlier.resized(*self.confidence.shape)
        flow = self.flow + warp(earlier.flow, self.flow)
        return Motion(flow, self.confidence * warp(earlier.confidence, self.flow))


def warp(image: Tensor, flow: Tensor, *, nearest: bool = False) -> Tensor:
    """``image`` carried along ``flow``: ``result(p) = image(p + flow(p))``, exactly where the flow is whole.

    Outside of the picture its border is repeated. Displacements may be rounded to 1/32 of a pixel (OpenCV).

    Args:
        image: ``(…, H, W)``, a picture, latent, or map of indices.
        flow: ``(2, h, w)``, displacement (x, y) in its own pixels; scaled to ``H x W``.
        nearest: Take the nearest value instead of interpolating: for indices, and for noise, which must stay noise.
    """
    height, width = image.shape[-2:]
    flow = _resize_flow(flow, height, width)
    if image.device.type == "cpu" and image.dtype == torch.float32 and not nearest:
        return _remap(image, flow)
    x = (torch.arange(width, device=flow.device) + flow[0]).clamp(0, width - 1)
    y = (torch.arange(height, device=flow.device)[:, None] + flow[1]).clamp(0, height - 1)
    if nearest:
        return _pick(image, (x + 0.5).floor(), (y + 0.5).floor())
    left, top = x.floor(), y.floor()
    right, bottom = (left + 1).clamp_max(width - 1), (top + 1).clamp_max(height - 1)
    across, down = (x - left).to(image.dtype), (y - top).to(image.dtype)
    upper = torch.lerp(_pick(image, left, top), _pick(image, right, top), across)
    return torch.lerp(upper, torch.lerp(_pick(image, left, bottom), _pick(image, right, bottom), across), down)


def carry_along(memory: Mapping[str, Tensor], motion: Motion) -> dict[str, Tensor]:
    """What a model left at the frame before, where it belongs in this one.

    Args:
        memory: Named maps ``(…, h, w)`` of any sizes; whole numbers are taken from the nearest place.
        motion: From the frame before.
    """
    if motion.still:
        return dict(memory)
    return {name: warp(value, motion.flow, nearest=not value.is_floating_point()) for name, value in memory.items()}


def estimate_motion(luma: Tensor, previous: Tensor, noise: Tensor | float) -> Motion:
    """Dense motion from ``previous`` to ``luma``, for dark and noisy frames.

    Both are smoothed, brightened by a curve that follows the light there is, and matched in both directions: OpenCV's
    dense inverse search (Kroeger et al., ECCV 2016) on the CPU, pyramidal Lucas-Kanade elsewhere, which never waits
    for the device. A displacement counts only where it explains the difference of the frames better, by more than the
    noise, than that of the camera does: a pan that places all over the frame agree on, or none. A frame whose
    difference is all noise is taken for still without a search (CPU).

    Args:
        luma: ``(h, w)`` float32, [0, 1], of the unfiltered small copy.
        previous: The same of an earlier frame, same size.
        noise: Standard deviation of the noise in both.

    Returns:
        Motion at the size of ``luma`` or a half, a quarter, … of it.
    """
    halvings = 0
    while max(luma.shape) >> halvings > _LONG_SIDE and min(luma.shape) >> halvings > 32:
        halvings += 1
    pair = torch.stack([luma, previous])[:, None]
    new, old = _smooth(_shrink(pair, 2**halvings)).squeeze(1)
    # Variance of the difference of two smoothed frames: white noise, and what a codec left.
    noise = noise.to(new) if isinstance(noise, Tensor) else new.new_full((), noise)
    floor = _FLOOR / (1.0 + noise / _FLOOR)
    expected = 2.0 * (_LEFT * (noise / 2**halvings).square() + floor.square())
    change = (new - old).square()
    height, width = new.shape
    if new.device.type == "cpu" and float(change.max()) < _STILL**2 * float(expected):
        return Motion.none(height, width)
    toned = torch.stack([new, old]).clamp_min(0.0)
    toned = toned / (toned + toned.mean() + 1e-3)  # brightens the dark by up to 1 / mean, keeps lamps from saturating
    if min(height, width) < 16:
        return Motion(new.new_zeros(2, height, width), (change < _LOST * expected).float())  # too small to tell
    forward, backward = _search_cpu(toned) if new.device.type == "cpu" else _search_torch(toned)
    return _judge(new, old, forward, backward, change=change, expected=expected)


def _judge(new: Tensor, old: Tensor, forward: Tensor, backward: Tensor, *, change: Tensor, expected: Tensor) -> Motion:
    """Believe what explains the frames, the camera's motion elsewhere; say how far each displacement can be trusted."""
    carried, *behind = warp(torch.cat([old[None], backward]), forward)
    residual = (new - carried).square()
    # Noise is stronger in some places than in others, and light may change everywhere: neither is a bad match.
    # A mean of square roots passes over the few that are.
    around = box_mean(torch.minimum(residual, change).sqrt().sqrt()[None, None], _AROUND)[0, 0]
    level = torch.maximum(expected, 2.2 * around.square().square())
    residual, change = box_mean(torch.stack([residual, change])[:, None], 5).squeeze(1)
    back = (forward + torch.stack(behind)).square().sum(0)
    consistent = (1.5 - back / (0.5 + 0.04 * forward.square().sum(0))).clamp(0.0, 1.0)
    moved = change > residual + _BENEFIT * level
    camera = _camera_motion(forward, moved * consistent * _inside(forward))
    panned = box_mean((new - warp(old, camera)).square()[None, None], 5)[0, 0]
    limit = _LOST * level
    change_, panned_, residual_ = (value.minimum(limit) / level for value in (change, panned, residual))
    explained = (change_ - panned_).sum()
    possible = ((change_ - residual_) * moved).sum()
    pans = (explained > 0.3 * possible).float()  # decided on the device
    camera = camera * pans
    change = torch.lerp(change, panned, pans)
    moved = change > residual + _BENEFIT * level
    flow = torch.where(moved, forward, camera)
    seen = torch.where(moved, residual, change)
    believed = ((_LOST - seen / level) / (_LOST - _SURE)).clamp(0.0, 1.0)
    return Motion(flow, believed * torch.where(moved, consistent, torch.ones_like(seen)) * _inside(flow))


def _camera_motion(flow: Tensor, weight: Tensor) -> Tensor:
    """Displacement that most places agree on, ``(2, h, w)``; 0 where they do not lie all over the frame."""
    agreeing = weight
    for _ in range(4):
        pan = (flow * agreeing).sum((1, 2), keepdim=True) / (agreeing.sum() + 1e-6)
        agreeing = weight / (1.0 + (flow - pan).square().sum(0)).square()
    cells = F.adaptive_avg_pool2d(agreeing[None, None], 4)
    return (pan * ((cells > 0.01).sum() >= 6)).expand_as(flow)


def _inside(flow: Tensor) -> Tensor:
    """Whether the content was in the picture before, ``(h, w)``."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[1]
    return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def _search_cpu(pair: Tensor) -> tuple[Tensor, Tensor]:
    codes = (pair * 255.0).round().to(torch.uint8).numpy()
    search = _dense_inverse_search(codes.shape[1:])
    first, second = (np.moveaxis(search.calc(a, b, None), 2, 0) for a, b in (codes, codes[::-1]))  # type: ignore[call-overload]
    return torch.from_numpy(np.ascontiguousarray(first)), torch.from_numpy(np.ascontiguousarray(second))


def _dense_inverse_search(size: tuple[int, ...]) -> cv2.DISOpticalFlow:
    """One for each size: what a search lowers for a small picture (its scales) it does not raise again."""
    kept: dict[tuple[int, ...], cv2.DISOpticalFlow] = _OF_THREAD.__dict__.setdefault("searches", {})
    if size in kept:
        return kept[size]
    if len(kept) >= _SIZES:
        kept.clear()
    search = kept[size] = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(1)
    search.setVariationalRefinementIterations(0)
    return search


def _search_torch(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Pyramidal Lucas-Kanade (Bouguet, 2000) in both directions at once; ``pair`` ``(2, h, w)``."""
    pyramid = [_shrink(pair[:, None], 2)]  # the finest details are more noise than motion
    while len(pyramid) < _LEVELS and min(pyramid[-1].shape[-2:]) >= 32:
        pyramid.append(_shrink(_smooth(pyramid[-1]), 2))
    flow = torch.zeros(2, 2, *pyramid[-1].shape[-2:], device=pair.device)
    for level in reversed(pyramid):
        height, width = level.shape[-2:]
        flow = torch.stack([_resize_flow(one, height, width) for one in flow])
        target = level.flip(0)
        for _ in range(_ROUNDS):
            moved = torch.stack([warp(image, one) for image, one in zip(target, flow, strict=True)])
            dx, dy = (0.5 * (a + b) for a, b in zip(_gradient(moved), _gradient(level), strict=True))
            dt = moved - level
            products = torch.cat([dx * dx, dx * dy, dy * dy, dx * dt, dy * dt], dim=1)
            xx, xy, yy, xt, yt = box_mean(products, _WINDOW).unbind(1)
            floor = 1e-5 + 0.02 * (xx + yy)
            xx, yy = xx + floor, yy + floor
            step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy * xy)[:, None]
            flow = box_mean(flow + step.clamp(-2.0, 2.0), 3)
    first, second = (_resize_flow(one, *pair.shape[-2:]) for one in flow)
    return first, second


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = 0.5 * (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2])
    return across, 0.5 * (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1])


def _resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    before = flow.shape[-2:]
    if before == (height, width):
        return flow
    flow = F.interpolate(flow[None], (height, width), mode="bilinear", align_corners=False)[0]
    return torch.stack([flow[0] * (width / before[1]), flow[1] * (height / before[0])])


def _pick(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    index = (y * image.shape[-1] + x).long().flatten()
    return image.flatten(-2).index_select(-1, index).view(image.shape)


def _remap(image: Tensor, flow: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    x = flow[0].numpy() + np.arange(width, dtype=np.float32)
    y = flow[1].numpy() + np.arange(height, dtype=np.float32)[:, None]
    planes = image.contiguous().numpy().reshape(-1, height, width)
    carried = np.empty_like(planes)
    for plane, target in zip(planes, carried, strict=True):
        cv2.remap(plane, x, y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(carried).view(image.shape)


def box_mean(image: Tensor, size: int) -> Tensor:
    """Box mean of ``(N, C, h, w)``, the border repeated."""
    if image.device.type == "cpu":
        flat = image.contiguous().numpy().reshape(-1, *image.shape[-2:])
        planes = [cv2.blur(plane, (size, size), borderType=cv2.BORDER_REPLICATE) for plane in flat]
        return torch.from_numpy(np.stack(planes)).view(image.shape)
    half = size // 2
    return F.avg_pool2d(F.pad(image, (half, half, half, half), mode="replicate"), size, stride=1)


def _shrink(image: Tensor, factor: int) -> Tensor:
    """Area mean of ``(N, C, h, w)``; a rest at the right and below is left out."""
    if factor == 1:
        return image
    height, width = image.shape[-2] // factor, image.shape[-1] // factor
    image = image[..., : height * factor, : width * factor]
    if image.device.type != "cpu":
        return F.avg_pool2d(image, factor)
    planes = image.contiguous().numpy().reshape(-1, *image.shape[-2:])
    small = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes]
    return torch.from_numpy(np.stack(small)).view(*image.shape[:2], height, width)


def _smooth(image: Tensor) -> Tensor:
    """``(N, 1, h, w)``, a triangle of 5 x 5."""
    return box_mean(box_mean(image, 3), 3)
