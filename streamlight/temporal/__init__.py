"""Motion, latent smoothing, scene cuts, noise. Tensors in, tensors out; per-stream state lives here."""

from streamlight.temporal.cuts import is_cut
from streamlight.temporal.latents import (
    LatentState,
    carry_along,
    carry_origin,
    look_up_noise,
    smooth_globals,
    smooth_latent,
    time_constant,
)
from streamlight.temporal.motion import Motion, estimate_motion, warp
from streamlight.temporal.noise import CODE, coarse_luma, estimate_noise
from streamlight.temporal.recursion import motion_gate
from streamlight.temporal.smoothing import blend_prior
from streamlight.temporal.state import StreamState

__all__ = [
    "CODE",
    "LatentState",
    "Motion",
    "StreamState",
    "blend_prior",
    "carry_along",
    "carry_origin",
    "coarse_luma",
    "estimate_motion",
    "estimate_noise",
    "is_cut",
    "look_up_noise",
    "motion_gate",
    "smooth_globals",
    "smooth_latent",
    "time_constant",
    "warp",
]
