"""Lights keep the size that the camera saw; everything away from them keeps its bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamlight.enhance.highlights import light_mask, protect_highlights
from streamlight.media import ColorSpec, Frame


def street(depth: int = 8, *, lamp: bool = True, size: tuple[int, int] = (200, 320)) -> Frame:
    """A dark picture with one headlight in the middle and glare around it."""
    spec = ColorSpec(bit_depth=depth)
    unit = 1 << (depth - 8)
    yy, xx = np.mgrid[0 : size[0], 0 : size[1]]
    distance = np.hypot(yy - size[0] / 2, xx - size[1] / 2)
    luma = (
        30.0 + 0.0 * distance + (200.0 * np.exp(-((distance / 4) ** 2)) + 20.0 * np.exp(-distance / 8) if lamp else 0.0)
    )
    chroma = np.full((size[0] // 2, size[1] // 2), 130.0)
    planes = tuple((np.clip(p, 16, 235) * unit).astype(spec.dtype) for p in (luma, chroma, chroma))
    return Frame(planes, spec, pts=0, time_base=Fraction(1, 25))


def brightened(frame: Frame) -> tuple[np.ndarray, ...]:
    before = frame.planes
    luma = np.minimum(before[0].astype(np.int64) * 4, 235 << (frame.color.bit_depth - 8)).astype(frame.color.dtype)
    frame.planes = (luma, *(plane + plane.dtype.type(9) for plane in before[1:]))
    return before


@pytest.mark.parametrize("depth", [8, 10])
def test_a_headlight_s_disc_shrinks_to_what_the_camera_saw(depth: int) -> None:
    frame = street(depth)
    before = brightened(frame)
    white = 200 << (depth - 8)
    own = frame.planes
    sizes = [int((plane >= white).sum()) for plane in (before[0], own[0])]
    protect_highlights(frame, before, amount=1.0)
    found = int((frame.planes[0] >= white).sum())
    assert sizes[0] <= found < sizes[1] / 2
    assert (frame.planes[0] <= own[0]).all()
    assert [plane.dtype for plane in frame.planes] == [frame.color.dtype] * 3
    assert frame.planes[1][50, 80] == before[1][50, 80]


def test_away_from_lights_every_bit_stays() -> None:
    frame = street()
    before = brightened(frame)
    own = frame.planes
    protect_highlights(frame, before, amount=1.0)
    for mine, new in zip(own, frame.planes, strict=True):
        rows, columns = mine.shape
        assert np.array_equal(mine[: rows // 4], new[: rows // 4])
        assert np.array_equal(mine[:, : columns // 4], new[:, : columns // 4])


def test_nothing_is_touched_without_lights_or_without_amount() -> None:
    for frame, amount in ((street(lamp=False), 1.0), (street(), 0.0)):
        before = brightened(frame)
        own = frame.planes
        protect_highlights(frame, before, amount=amount)
        assert frame.planes is own


def test_the_amount_goes_from_nothing_to_everything() -> None:
    middles = []
    for amount in (0.0, 0.25, 0.5, 1.0):
        frame = street()
        before = brightened(frame)
        protect_highlights(frame, before, amount=amount)
        middles.append(int(frame.planes[0][100, 168]))  # in the glare beside the lamp
    assert middles == sorted(middles, reverse=True)
    assert middles[0] > middles[-1] + 20


@pytest.mark.parametrize("size", [(2, 2), (17, 33), (1080, 1920)])
def test_any_size_and_luma_alone(size: tuple[int, int]) -> None:
    luma = np.full(size, 235, np.uint8)
    frame = Frame((np.full(size, 240, np.uint8),), ColorSpec(chroma="400"), pts=0, time_base=Fraction(1, 25))
    protect_highlights(frame, (luma,), amount=1.0)
    assert frame.planes[0].shape == size
    assert (frame.planes[0] == 235).all()
    assert light_mask(luma, scale=(16.0, 219.0)).max() <= 1.0
