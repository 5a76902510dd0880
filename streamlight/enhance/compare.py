"""Before and after in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from streamlight.media.frame import ColorSpec

CompareLayout = Literal["split", "side"]


def compare_planes(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], color: ColorSpec, *, layout: CompareLayout = "split"
) -> tuple[np.ndarray, ...]:
    """Join the planes of a frame before and after enhancement.

    Args:
        before: Decoded planes.
        after: Enhanced planes, same sizes and type.
        color: How to read both.
        layout: ``"split"``: left half before, right half after, same size. ``"side"``: both whole, twice the width
            (the width is rounded down to whole chroma samples first, so that an odd last column is left out).

    Returns:
        New planes; a thin white line marks the border.
    """
    shift_x, _ = color.chroma_shift
    unit = 1 << shift_x
    width = before[0].shape[1]
    joined = []
    seam = (width // 2 if layout == "split" else width) // unit * unit
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        at = seam if index == 0 else seam // unit
        plane = np.concatenate([old[:, :at], new[:, at:] if layout == "split" else new[:, :at]], axis=1)
        line = max(1, width // 960) * unit
        left = at - (line if index == 0 else line // unit) // 2
        right = left + (line if index == 0 else line // unit)
        offset, span = color.luma_scale() if index == 0 else color.chroma_scale()
        plane[:, max(0, left) : right] = round(offset + span) if index == 0 else round(offset)
        joined.append(plane)
    return tuple(joined)
