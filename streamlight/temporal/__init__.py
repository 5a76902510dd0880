"""Motion, averages along it, scene cuts, noise. Tensors in, tensors out; per-stream state lives here."""

from streamlight.temporal.average import (
    Average,
    average_along,
    time_constant,
)
from streamlight.temporal.cuts import is_cut
from streamlight.temporal.motion import Motion, carry_along, estimate_motion, warp
from streamlight.temporal.noise import CODE, coarse_luma, estimate_noise
from streamlight.temporal.recursion import motion_gate
from streamlight.temporal.smoothing import blend_prior
from streamlight.temporal.state import StreamState

__all__ = [
    "CODE",
    "Average",
    "Motion",
    "StreamState",
    "average_along",
    "blend_prior",
    "carry_along",
    "coarse_luma",
    "estimate_motion",
    "estimate_noise",
    "is_cut",
    "motion_gate",
    "time_constant",
    "warp",
]
