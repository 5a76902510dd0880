"""What both modes do before they look at a new frame: is it a new scene, how noisy is it, how much time has passed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.media.frame import Frame
from streamlight.temporal import Motion, StreamState, coarse_luma, estimate_motion, estimate_noise, is_cut

_GAP: Final = 2.0
"""Seconds without a frame after which a stream is taken for a new scene."""


@dataclass(frozen=True)
class Step:
    """From the frame before to this one.

    Attributes:
        seconds: Between them, on a device a 0-dim tensor; 0 where nothing is remembered.
        luma: Of the frame's small copy, ``(h, w)``; None where nothing is known.
        before: The same of the frame before; None where nothing is remembered.
        noise: Standard deviation of the noise in both.
        fresh: On a device, where nobody can ask whether a new scene begins with this frame: 1 if so, else 0, 0-dim.
            None where that is known, and what was remembered is forgotten already.
    """

    seconds: float | Tensor = 0.0
    luma: Tensor | None = None
    before: Tensor | None = None
    noise: Tensor | float = 0.0
    fresh: Tensor | None = None

    @cached_property
    def motion(self) -> Motion | None:
        """What moved in between, searched for when first asked; None where nothing is remembered."""
        if self.luma is None or self.before is None:
            return None
        motion = estimate_motion(self.luma, self.before, self.noise)
        return motion if self.fresh is None else motion.unless(self.fresh)

    def on(self, device: torch.device) -> Step:
        """The same step for a model on ``device``; its motion is then searched for there."""
        if self.luma is None or self.luma.device == device:
            return self
        before = None if self.before is None else self.before.to(device)
        return replace(self, luma=self.luma.to(device), before=before)


def watch(state: StreamState, luma: Tensor, frame: Frame) -> Step:
    """Reset the state where the scene is a new one, and take up the frame's noise, scene and time.

    Args:
        state: Of the frame's stream; updated.
        luma: Luma of the frame's small copy, ``(h, w)``, [0, 1].
        frame: The frame.
    """
    return look(state, luma, keep_time(state, frame))


def keep_time(state: StreamState, frame: Frame) -> float:
    """What is known of a frame without looking at it: reset the state behind a gap or a change of size, take up time.

    Returns:
        Seconds since the frame before; 0 where nothing is remembered.
    """
    now = frame.seconds
    seconds = float(now - state.moment) if state.moment is not None else 0.0
    if is_resized(state, frame) or not 0.0 <= seconds <= _GAP:
        state.reset()
        seconds = 0.0
    state.moment, state.size = now, (frame.width, frame.height)
    return seconds


def look(state: StreamState, luma: Tensor, seconds: float | Tensor) -> Step:
    """What only the picture says: is it a new scene, how noisy is it.

    On the host the state is reset at a cut. On a device nobody can ask without waiting for it; there the step says so
    (:attr:`Step.fresh`), and whoever uses what is remembered heeds it.

    Args:
        state: Of the frame's stream; updated.
        luma: Luma of the frame's small copy, ``(h, w)``, [0, 1].
        seconds: From :func:`keep_time`.
    """
    scene = coarse_luma(luma)
    if state.raw_luma is not None and state.raw_luma.shape != luma.shape:
        _change_working_size(state, luma)
    cut, fresh = is_cut(scene, state.scene), None
    if isinstance(cut, Tensor) and cut.device.type != "cpu":
        fresh = cut.to(luma.dtype)
        state.cuts = state.cuts + cut
    elif bool(cut):
        moment, size = state.moment, state.size
        state.reset()
        state.moment, state.size = moment, size
        state.cuts += 1
    before = state.raw_luma
    state.noise = estimate_noise(luma, before, before=state.noise, fresh=fresh)
    state.scene, state.raw_luma = scene, luma
    return Step(seconds if before is not None else 0.0, luma, before, state.noise, fresh)


def is_resized(state: StreamState, frame: Frame) -> bool:
    """Whether the stream's frames have changed their size or layout."""
    # The kernels trust these shapes; two sizes can share a small copy, so the planes themselves are compared.
    shapes = [memory.shape for memory in state.memory]
    return state.size not in (None, (frame.width, frame.height)) or (
        bool(shapes) and shapes != [plane.shape for plane in frame.planes]
    )


def _change_working_size(state: StreamState, luma: Tensor) -> None:
    """The same scene on a small copy of another size: what can be scaled goes on, the rest begins anew.

    The filtered picture, the decision on the whole frame and the full-size memory stay, so that nobody sees the step.
    """
    if state.small is not None:
        state.small = F.interpolate(state.small[None], luma.shape, mode="bilinear", antialias=True)[0]
    state.noise = state.scene = state.raw_luma = state.average = state.key_moment = None
    state.carried, state.key = {}, {}
