from __future__ import annotations

import numpy as np
import pytest

from streamlight.enhance.compare import compare_planes
from streamlight.media.frame import ColorSpec


def planes(value: int, width: int = 65, height: int = 33, chroma: tuple[int, int] = (33, 17)) -> tuple[np.ndarray, ...]:
    return (
        np.full((height, width), value, np.uint8),
        np.full((chroma[1], chroma[0]), value, np.uint8),
        np.full((chroma[1], chroma[0]), value, np.uint8),
    )


def test_split_keeps_the_size_and_shows_both():
    joined = compare_planes(planes(10), planes(200), ColorSpec())
    assert [p.shape for p in joined] == [(33, 65), (17, 33), (17, 33)]
    assert (joined[0][:, :30] == 10).all()
    assert (joined[0][:, 35:] == 200).all()
    assert (joined[0] == 235).any()
    assert (joined[1] == 128).any()


def test_side_is_twice_as_wide_and_even():
    joined = compare_planes(planes(10), planes(200), ColorSpec(), layout="side")
    assert [p.shape for p in joined] == [(33, 128), (17, 64), (17, 64)]
    assert (joined[0][:, :62] == 10).all()
    assert (joined[0][:, 66:] == 200).all()


@pytest.mark.parametrize("layout", ["split", "side"])
def test_luma_alone_and_deep(layout):
    color = ColorSpec(chroma="400", bit_depth=10, range="full")
    old, new = (np.full((9, 20), v, np.uint16) for v in (100, 900))
    (joined,) = compare_planes((old,), (new,), color, layout=layout)
    assert joined.dtype == np.uint16
    assert {100, 900, 1023} == set(np.unique(joined))
