"""Between key frames: what the model decided on one frame, for the frames behind it.

A tone curve, fitted at the key frame, says what most of the decision was: so much brighter at such a luma. It holds on
every frame, wherever things move and whatever the light does. What it leaves unexplained, a residual of affine maps, is
small and smooth, and is carried along the motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from streamlight.enhance.transfer import AffineMaps, GuidedTransfer
from streamlight.enhance.watch import Step
from streamlight.temporal import CODE, Motion, StreamState, warp
from streamlight.temporal.motion import box_mean

_KNOTS: Final = 32
_SAMPLES: Final = 32_768
_TABLE: Final = 2048
"""Intervals of the tabulated curve over luma 0 to 1."""

_LOST: Final = 0.25
"""A decision is out of date where motion has lost more than this share of the picture …"""

_EXPOSURE: Final = 0.2
"""… or the mean luma has changed by more than this share of itself and :data:`_BLACK`."""

_BLACK: Final = 0.02

_OF_MODEL: Final = ("prior", "carried")
"""What a model's decision changes in the state of a stream."""


def keep_key(
    state: StreamState,
    transfer: GuidedTransfer,
    *,
    dark: Tensor,
    guide: Tensor,
    bright: Tensor,
    maps: AffineMaps,
    eps: tuple[float, float],
) -> dict[str, Tensor]:
    """What to keep of a key frame, for :attr:`StreamState.key`.

    Args:
        state: Of the stream, as of the key frame; not changed.
        transfer: That made ``maps``.
        dark: Small copy, ``(3, h, w)`` normalised YCbCr.
        guide: The same, or calmer over time: what the tone curve is to look at.
        bright: What the model made of it, same shape.
        maps: Fitted from ``dark`` to ``bright``.
        eps: They were fitted with.
    """
    assert state.raw_luma is not None
    guide, grain = _choose_guide(guide, bright)
    table = fit_curve(guide, bright)
    plain = transfer.fit(dark, apply_curve(table, guide), eps=eps)
    residual = [full - part for full, part in zip(_planes(maps), _planes(plain), strict=True)]
    return {
        "luma": state.raw_luma,
        "table": table,
        "grain": torch.tensor(grain),
        "residual": torch.from_numpy(np.stack(residual)),
        "eps": torch.tensor(eps, dtype=torch.float64),
        "age": torch.tensor(state.age),
    }


def carry_key(
    key: dict[str, Tensor], transfer: GuidedTransfer, *, dark: Tensor, guide: Tensor, motion: Motion | None
) -> AffineMaps:
    """The maps of a frame behind a key frame.

    Args:
        key: From :func:`keep_key`.
        transfer: For the same geometry.
        dark: Small copy of the frame.
        guide: As for :func:`keep_key`.
        motion: From the key frame to this one; None for none.
    """
    eps = (float(key["eps"][0]), float(key["eps"][1]))
    plain = transfer.fit(dark, apply_curve(key["table"], _guide(guide, float(key["grain"]))), eps=eps)
    residual = key["residual"]
    if motion is not None and not motion.still:
        residual = warp(residual, motion.flow)
    padded = np.pad(residual.numpy(), ((0, 0), (0, 1), (0, 1)), mode="edge")
    count = len(plain.gain)
    return AffineMaps(
        tuple(part + rest for part, rest in zip(plain.gain, padded[:count], strict=True)),
        tuple(part + rest for part, rest in zip(plain.bias, padded[count:], strict=True)),
    )


def step_from_key(state: StreamState, step: Step) -> Step:
    """The step from the last key frame to the frame that :func:`watch` has just seen; ``step`` where there is none."""
    if not state.key or state.key_moment is None or state.moment is None:
        return step
    seconds = float(state.moment - state.key_moment)
    return Step(seconds, state.raw_luma, state.key["luma"], step.noise)


def is_due(key: dict[str, Tensor], step: Step, *, age: int, interval: int) -> bool:
    """Whether the model should decide anew.

    Args:
        key: From :func:`keep_key`; empty where there is no decision yet.
        step: From the key frame to this one.
        age: Of the stream at this frame.
        interval: Frames after which it should in any case. A decision that is out of date is renewed earlier, but not
            before a quarter of them, so that the cost has a bound.
    """
    if not key:
        return True
    passed = age - int(key["age"])
    if passed >= interval:
        return True
    if passed < math.ceil(interval / 4) or step.luma is None or step.motion is None:
        return False
    before, now = float(key["luma"].mean()), float(step.luma.mean())
    if abs(now - before) > _EXPOSURE * (max(before, 0.0) + _BLACK):
        return True
    return 1.0 - float(step.motion.confidence.mean()) > _LOST


@dataclass(frozen=True, slots=True)
class KeyResult:
    """What was decided on a key frame while its stream went on.

    Attributes:
        shadow: The stream's state as it was at the key frame, with what the model left in it.
        key: From :func:`keep_key`.
        base: :attr:`StreamState.key` at the time; another one now means that the stream has begun anew.
    """

    shadow: StreamState
    key: dict[str, Tensor]
    base: dict[str, Tensor]

    def hand_over(self, state: StreamState) -> None:
        """Take it up in the stream's state."""
        for name in _OF_MODEL:
            setattr(state, name, getattr(self.shadow, name))
        state.key, state.key_moment = self.key, self.shadow.moment


def shadow_of(state: StreamState) -> StreamState:
    """A state that a model may change while the stream goes on with ``state``; without the full-size memory."""
    return replace(state, carried=dict(state.carried), memory=[])


def fit_curve(dark: Tensor, bright: Tensor) -> Tensor:
    """The tone curve that explains ``bright`` best, as a function of dark luma alone.

    Args:
        dark: ``(3, h, w)`` normalised YCbCr.
        bright: Same shape.

    Returns:
        ``(5, n)`` float32 over luma 0 to 1: bright luma, then gain and bias of each chroma plane.
    """
    stride = max(1, dark[0].numel() // _SAMPLES)
    dark_, bright_ = (picture.reshape(3, -1)[:, ::stride].numpy().astype(np.float64) for picture in (dark, bright))
    luma = dark_[0]
    knots = np.unique(np.quantile(luma, np.linspace(0.0, 1.0, _KNOTS + 1)))
    bins = max(len(knots) - 1, 1)
    where = np.clip(np.searchsorted(knots, luma, side="right") - 1, 0, bins - 1)
    count = np.maximum(np.bincount(where, minlength=bins), 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(where, values, bins) / count

    rows = [_extended(mean(luma), np.maximum.accumulate(mean(bright_[0])))]
    grid = np.linspace(0.0, 1.0, _TABLE + 1)
    for before, after in zip(dark_[1:], bright_[1:], strict=True):
        centre, target = mean(before), mean(after)
        spread = mean(before * before) - centre * centre
        gain = (mean(before * after) - centre * target) / (spread + (0.5 * CODE) ** 2)
        rows += [np.interp(grid, mean(luma), gain), np.interp(grid, mean(luma), target - gain * centre)]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def apply_curve(table: Tensor, dark: Tensor) -> Tensor:
    """What the curve makes of a small copy ``(3, h, w)``."""
    place = dark[0].numpy() * np.float32(_TABLE)
    zero = np.zeros_like(place)
    luma, *chroma = (
        np.ascontiguousarray(table[rows].numpy().T)[None] for rows in (slice(0, 1), slice(1, 3), slice(3, 5))
    )

    def look_up(entries: np.ndarray) -> np.ndarray:
        return cv2.remap(entries, place, zero, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    out = [look_up(luma)]
    for entries, plane in zip(chroma, dark[1:], strict=True):
        found = look_up(entries)
        out.append(found[..., 0] * plane.numpy() + found[..., 1])
    return torch.from_numpy(np.stack(out))


def _extended(dark: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """The curve on the whole table; where the key frame had no such luma its ends go on, without more gain."""
    grid = np.linspace(0.0, 1.0, _TABLE + 1)
    curve = np.interp(grid, dark, bright)
    above = grid > dark[-1]
    curve[above] = np.minimum(bright[-1] + (grid[above] - dark[-1]), max(1.0, bright[-1]))
    return curve


def _choose_guide(dark: Tensor, bright: Tensor) -> tuple[Tensor, float]:
    """What the curve looks at: the small copy with as much of its grain as the model has left in its result."""
    smooth = _guide(dark, 0.0)
    fine, coarse = (apply_curve(fit_curve(guide, bright), guide)[0] for guide in (dark, smooth))
    detail = fine - coarse
    grain = float(((bright[0] - coarse) * detail).sum() / (detail.square().sum() + 1e-9))
    grain = min(max(grain, 0.0), 1.0)
    return _guide(dark, grain), grain


def _guide(dark: Tensor, grain: float) -> Tensor:
    return dark if grain >= 1.0 else torch.lerp(box_mean(dark[None], 3)[0], dark, grain)


def _planes(maps: AffineMaps) -> list[np.ndarray]:
    """Gains, then biases, without the row and column that only repeat."""
    return [plane[:-1, :-1] for plane in (*maps.gain, *maps.bias)]
