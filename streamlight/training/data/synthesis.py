"""One pair out of a clean picture: a view of it, and what a camera makes of that at night."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamlight.training.degradation import degrade_still, perspective_view, sample_parameters
from streamlight.training.degradation.sampling import Draw
from streamlight.training.recipe import DataRecipe
from streamlight.training.seeds import generator


@dataclass(frozen=True, slots=True)
class Entry:
    """A pair as it is kept.

    Attributes:
        name: Where it comes from.
        low: ``(3, H, W)`` uint8 RGB, as stored by the dark camera.
        target: Likewise, as it should have been seen.
        clean: ``(3, H, W)`` uint16 (65535 is white): the dark picture before noise, blur and storage; or None.
    """

    name: str
    low: np.ndarray
    target: np.ndarray
    clean: np.ndarray | None = None


def make_pair(image: Tensor, recipe: DataRecipe, *, name: str, seed: int, index: int, radiance: bool = False) -> Entry:
    """Cut a view and darken it; the result depends on the arguments only.

    Args:
        image: ``(3, H, W)`` float: encoded RGB in [0, 1], or linear radiance.
        recipe: What is drawn from.
        name: Of the material.
        seed: Of the run.
        index: Of the pair in the run.
        radiance: Whether the image is linear radiance; twice as wide as high, it is a panorama.

    Raises:
        ValueError: The image has another shape, or holds NaN.
        MediaError: An encoder failed.
    """
    draw = Draw(generator(seed, "view", index))
    panorama = radiance and image.shape[2] == 2 * image.shape[1]
    view = _look_around(image, recipe, draw) if panorama else _cut(image, recipe, draw)
    if draw.chance(0.5) and recipe.flips:
        view = view.flip(2)
    if draw.chance(recipe.permute_colours):
        view = view[torch.randperm(3, generator=generator(seed, "colours", index))]
    view = view.contiguous()
    numbers = generator(seed, "degradation", index)
    parameters = sample_parameters(numbers, ranges=recipe.degradation)
    pair, clean = degrade_still(view, parameters, generator=numbers, radiance=radiance)
    return Entry(
        f"{name} (pair {index})",
        to_codes(pair.low, 255).astype(np.uint8),
        to_codes(pair.target, 255).astype(np.uint8),
        to_codes(clean, 65535).astype(np.uint16) if recipe.clean else None,
    )


def to_codes(image: Tensor, top: int) -> np.ndarray:
    """Whole numbers from 0 to ``top``, as float32, of values in [0, 1]."""
    return (image.clamp(0.0, 1.0) * top).round().numpy()


def _cut(image: Tensor, recipe: DataRecipe, draw: Draw) -> Tensor:
    """A crop of about the wanted aspect, scaled to the size. Small pictures are not cropped to be enlarged."""
    height, width = recipe.size
    rows, columns = image.shape[1:]
    aspect = width / height * math.exp(draw.uniform(-1.0, 1.0) * math.log1p(recipe.aspect))
    full = min(columns, rows * aspect)
    share = max(draw.uniform(*recipe.coverage), min(1.0, width / full))
    wide, high = max(1, round(full * share)), max(1, round(full * share / aspect))
    left = draw.whole(0, max(0, columns - wide))
    top = draw.whole(0, max(0, rows - high))
    return resize(image[:, top : top + high, left : left + wide], recipe.size)


def _look_around(panorama: Tensor, recipe: DataRecipe, draw: Draw) -> Tensor:
    yaw, pitch, field = draw.uniform(0.0, 360.0), draw.uniform(-20.0, 15.0), draw.uniform(75.0, 110.0)
    return perspective_view(panorama, yaw=yaw, pitch=pitch, field_of_view=field, size=recipe.size).clamp_min(0.0)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """``(3, H, W)`` float to ``(3, *size)``: areas are averaged on the way down, linear interpolation on the way up."""
    import cv2

    height, width = size
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
