"""Where things went from one frame to the next, for metrics: estimated flow, warping, and what can be compared at all.

Flow is ``(H, W, 2)`` float32: pixels to the right and down by which what is at a place moves until the next frame. It
is estimated by DIS (Kroeger et al., ECCV 2016, OpenCV's, preset "medium") on a reference or on the source, the same
for every result that is judged, and never on a result: a result that smears would have a flow to match.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

_TOP: Final = 200.0
_MOST: Final = 40.0
_COARSE: Final = (64, 36)
_SHIFT: Final = 2
_FLAT: Final = 1e-3


def estimate_flow(now: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Dense flow from one luma plane to the next.

    Args:
        now: ``(H, W)`` luma, 8-bit codes (uint8, or float that is rounded and clipped).
        following: The next frame's, same shape.

    Returns:
        ``(H, W, 2)`` float32, pixels (x, y).

    Raises:
        ValueError: The shapes differ.
    """
    if now.shape != following.shape or now.ndim != 2:
        raise ValueError(f"two planes of one shape (H, W) are needed, got {now.shape} and {following.shape}")
    height, width = now.shape
    pads = max(0, 32 - height), max(0, 32 - width)  # DIS needs a few patches
    first, second = (
        cv2.copyMakeBorder(_eight(p), 0, pads[0], 0, pads[1], cv2.BORDER_REPLICATE) for p in (now, following)
    )
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)  # type: ignore[call-overload]
    return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)


def brightened(luma: np.ndarray, following: np.ndarray, *, black: float = 16.0) -> tuple[np.ndarray, np.ndarray]:
    """A dark pair made fit for flow: one gain for both, from the first, and a Gaussian of σ = 1.5 against noise.

    A fixed function of the source, so that every result is judged along the same flow. The gain brings the 99th
    percentile to code 200 and is at most 40.

    Args:
        luma: ``(H, W)`` 8-bit codes of the dark frame.
        following: Of the next one.
        black: Code of black.
    """
    top = float(np.percentile(luma[::4, ::4], 99.0)) - black
    gain = min(_TOP / max(top, 1e-3), _MOST)
    pair = ((p.astype(np.float32) - np.float32(black)) * np.float32(gain) for p in (luma, following))
    first, second = (cv2.GaussianBlur(p, (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE) for p in pair)
    return first, second


def same_shot(now: np.ndarray, following: np.ndarray, *, black: float = 16.0) -> bool:
    """Whether two neighbouring frames show one view: no cut lies between them.

    A cut changes both the light and what is drawn in it: reduced to 64x36 pixels, luma differs by an eighth of its
    mean or more, and its logarithm less its 7x7 mean correlates by less than 0.3 at every shift of up to 2 pixels. A
    lamp that goes on changes the light alone, something that passes a part of the picture alone.

    Args:
        now: ``(H, W)`` 8-bit codes.
        following: The next frame's.
        black: Code of black.
    """
    small = [cv2.resize(p.astype(np.float32), _COARSE, interpolation=cv2.INTER_AREA) - black for p in (now, following)]
    level = float(small[0].mean() + small[1].mean()) / 2.0
    if float(np.abs(small[0] - small[1]).mean()) < (max(level, 0.0) + 1.0) / 8.0:
        return True
    one, other = (_structure(p) for p in small)
    inner = one[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    if min(float(inner.std()), float(other.std())) < _FLAT:
        return True  # nothing is drawn in one of them: black, or a flash
    return float(cv2.matchTemplate(other, inner, cv2.TM_CCOEFF_NORMED).max()) >= 0.3


def _structure(luma: np.ndarray) -> np.ndarray:
    drawn = np.log(np.maximum(luma, 0.0) + 1.0)
    rest: np.ndarray = drawn - cv2.blur(drawn, (7, 7), borderType=cv2.BORDER_REFLECT)
    return rest


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """``image`` sampled at ``p + flow(p)``, bilinear: the next frame brought back to this one.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` float, C at most 4.
        flow: ``(H, W, 2)``.

    Returns:
        As ``image``, float32; places outside the picture take its border (see :func:`inside`).
    """
    x, y = _places(flow)
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def inside(flow: np.ndarray) -> np.ndarray:
    """``(H, W)`` bool: where ``p + flow(p)`` lies in the picture."""
    x, y = _places(flow)
    height, width = flow.shape[:2]
    return (x >= 0.0) & (y >= 0.0) & (x <= width - 1.0) & (y <= height - 1.0)


def visible(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Where a frame can be compared with the next: seen in both, and not at the edge of a motion.

    With f the forward flow and b the backward flow at the place f leads to, a pixel is left out if
    ``|f + b|² > 0.01 (|f|² + |b|²) + 0.5`` (occluded), if ``|∇u|² + |∇v|² > 0.01 |f|² + 0.002`` for f = (u, v) (edge of
    a motion), or if f leads out of the picture. The first two are those of Ruder et al., GCPR 2016, which Lai et al.,
    ECCV 2018, use for the warping error.

    Args:
        forward: ``(H, W, 2)`` from this frame to the next.
        backward: ``(H, W, 2)`` from the next to this one.

    Returns:
        ``(H, W)`` bool.
    """
    back = warp(backward, forward)
    length = np.square(forward).sum(-1)
    apart = np.square(forward + back).sum(-1)
    right = np.diff(forward, axis=1, append=forward[:, -1:])
    down = np.diff(forward, axis=0, append=forward[-1:])
    steep = np.square(right).sum(-1) + np.square(down).sum(-1)
    seen = apart <= 0.01 * (length + np.square(back).sum(-1)) + 0.5
    smooth = steep <= 0.01 * length + 0.002
    together: np.ndarray = seen & smooth & inside(forward)
    return together


def _places(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return x.astype(np.float32), y.astype(np.float32)


def _eight(plane: np.ndarray) -> np.ndarray:
    return plane if plane.dtype == np.uint8 else np.clip(np.rint(plane), 0, 255).astype(np.uint8)
