"""What both modes do before they look at a new frame: is it a new scene, how noisy is it, how much time has passed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from torch import Tensor

from streamlight.media.frame import Frame
from streamlight.temporal import Motion, StreamState, coarse_luma, estimate_motion, estimate_noise, is_cut

_GAP: Final = 2.0
"""Seconds without a frame after which a stream is taken for a new scene."""


@dataclass(frozen=True)
class Step:
    """From the frame before to this one.

    Attributes:
        seconds: Between them; 0 where nothing is remembered.
        luma: Of the frame's small copy, ``(h, w)``; None where nothing is known.
        before: The same of the frame before; None where nothing is remembered.
        noise: Standard deviation of the noise in both.
    """

    seconds: float = 0.0
    luma: Tensor | None = None
    before: Tensor | None = None
    noise: Tensor | float = 0.0

    @cached_property
    def motion(self) -> Motion | None:
        """What moved in between, searched for when first asked; None where nothing is remembered."""
        if self.luma is None or self.before is None:
            return None
        return estimate_motion(self.luma, self.before, self.noise)


def watch(state: StreamState, luma: Tensor, frame: Frame) -> Step:
    """Reset the state where the scene is a new one, and take up the frame's noise, scene and time.

    Args:
        state: Of the frame's stream; updated.
        luma: Luma of the frame's small copy, ``(h, w)``, [0, 1].
        frame: The frame.
    """
    scene = coarse_luma(luma)
    now = frame.seconds
    seconds = float(now - state.moment) if state.moment is not None else 0.0
    # The kernels trust these shapes; two sizes can share a small copy, so the planes themselves are compared.
    resized = bool(state.memory) and [m.shape for m in state.memory] != [p.shape for p in frame.planes]
    if resized or not 0.0 <= seconds <= _GAP:
        state.reset()
    elif bool(is_cut(scene, state.scene)):
        state.reset()
        state.cuts += 1
    before = state.raw_luma
    state.noise = estimate_noise(luma, before, before=state.noise)
    state.scene, state.raw_luma, state.moment = scene, luma, now
    return Step(seconds if before is not None else 0.0, luma, before, state.noise)
