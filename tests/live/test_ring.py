"""Frames through shared memory."""

from __future__ import annotations

import os

import numpy as np
import pytest

from streamlight.live.ring import FrameRing, FrameShape
from streamlight.media import ColorSpec
from streamlight.media.frame import CHROMA_SHIFTS, ChromaLayout


@pytest.mark.parametrize("chroma", CHROMA_SHIFTS)
@pytest.mark.parametrize("depth", [8, 10])
def test_what_one_side_writes_the_other_reads(chroma: ChromaLayout, depth: int) -> None:
    shape = FrameShape(37, 21, ColorSpec(chroma=chroma, bit_depth=depth, tags=(9, 1, 9, 16)))
    ring = FrameRing(3)
    other = FrameRing(3, descriptor=os.dup(ring.descriptor))
    ring.lay_out(shape)
    other.lay_out(FrameShape.from_json(shape.to_json()))
    assert other.shape == shape
    for slot in range(3):
        for number, plane in enumerate(ring.planes(slot)):
            plane[:] = slot * 10 + number
    for slot in range(3):
        for number, plane in enumerate(other.planes(slot)):
            assert plane.dtype == shape.color.dtype
            assert (plane == slot * 10 + number).all()
    ring.close()
    other.close()


def test_a_larger_shape_gets_more_room_and_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    ring = FrameRing(2)
    for width in (64, 640, 32):
        ring.lay_out(FrameShape(width, 48, ColorSpec()))
        ring.planes(1)[0][:] = 7
        assert ring.planes(1)[1].shape == (24, width // 2)
    ring.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [name for name in os.listdir("/dev/shm") if "streamlight" in name]


def test_planes_of_odd_sizes_round_chroma_up() -> None:
    assert FrameShape(5, 3, ColorSpec()).planes() == [(3, 5), (2, 3), (2, 3)]
    assert FrameShape(5, 3, ColorSpec(chroma="400")).planes() == [(3, 5)]
    assert np.prod((3, 5)) < FrameShape(5, 3, ColorSpec()).size
