"""Oncoming headlights stay as large as the camera saw them: less gain in lamps and in the glare around them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from streamlight.media.frame import Frame

_COLUMNS: Final = 320
_DIM, _BRIGHT = 0.45, 0.75
"""Luma at which a place begins to count as a light, and from which it does in full."""

_REACH: Final = 0.035
"""How far glare is taken to reach, as a share of the picture's width."""

_GLARE: Final = 0.8
_NOTHING: Final = 1e-3


def protect_highlights(frame: Frame, before: tuple[np.ndarray, ...], *, amount: float) -> None:
    """Give lights and the glare around them back what the camera saw.

    A gain that suits a dark road makes a headlight's glare a white disc that hides the kerb beside it. Where the camera
    saw a light, the picture goes back to the camera's, softly, and nowhere does it get brighter by that.

    Args:
        frame: Enhanced; its planes are replaced.
        before: Its planes as decoded, same shapes and type.
        amount: 0 leaves the frame as it is, 1 gives lights back in full.
    """
    if amount <= 0.0:
        return
    mask = light_mask(before[0], scale=frame.color.luma_scale())
    rows, columns = np.flatnonzero(mask.max(1) > _NOTHING), np.flatnonzero(mask.max(0) > _NOTHING)
    if not len(rows):
        return
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    planes = [np.array(plane) for plane in frame.planes]
    for number, (dark, bright) in enumerate(zip(before, planes, strict=True)):
        share = cv2.resize(mask, bright.shape[::-1], interpolation=cv2.INTER_LINEAR)
        top, bottom, left, right = _scaled(box, mask.shape, bright.shape)
        part = (slice(top, bottom), slice(left, right))
        weight = np.ascontiguousarray(share[part]) * np.float32(amount)
        own, camera = bright[part].astype(np.float32), dark[part].astype(np.float32)
        mixed = np.rint(cv2.blendLinear(camera, own, weight, 1.0 - weight))
        bright[part] = np.minimum(mixed, own) if number == 0 else mixed
    frame.planes = tuple(planes)


def _scaled(
    box: tuple[int, int, int, int], small: tuple[int, ...], large: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Rows and columns of a large plane that a box of the small mask covers, interpolation included."""
    top, bottom, left, right = box
    down, across = large[0] / small[0], large[1] / small[1]
    return (
        max(0, int((top - 1) * down)), min(large[0], int((bottom + 1) * down) + 1),
        max(0, int((left - 1) * across)), min(large[1], int((right + 1) * across) + 1),
    )  # fmt: skip


def light_mask(luma: np.ndarray, *, scale: tuple[float, float]) -> np.ndarray:
    """Where lights are, and how far their glare reaches.

    Args:
        luma: Decoded luma plane, code values.
        scale: Its ``(offset, span)``.

    Returns:
        ``(h, w)`` float32 in [0, 1], at most 320 columns.
    """
    rows, columns = luma.shape
    width = min(columns, _COLUMNS)
    height = max(1, round(rows * width / columns))
    small = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    value = (small - scale[0]) * (1.0 / scale[1])
    light = np.clip((value - _DIM) * (1.0 / (_BRIGHT - _DIM)), 0.0, 1.0)
    light = light * light * (3.0 - 2.0 * light)
    reach = max(1, round(_REACH * width))
    side = 2 * reach + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    glare = cv2.GaussianBlur(cv2.dilate(light, disc), (0, 0), 0.5 * reach)
    return np.maximum(light, _GLARE * glare)
