"""Motion, latent smoothing, scene cuts, noise. Tensors in, tensors out; per-stream state lives here."""

from streamlight.temporal.cuts import is_cut
from streamlight.temporal.latents import (
    LatentState,
    blend_clean,
    carry_origin,
    look_up_noise,
    renoise,
    smooth_globals,
    smooth_latent,
    steady_codes,
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
    "blend_clean",
    "blend_prior",
    "carry_origin",
    "coarse_luma",
    "estimate_motion",
    "estimate_noise",
    "is_cut",
    "look_up_noise",
    "motion_gate",
    "renoise",
    "smooth_globals",
    "smooth_latent",
    "steady_codes",
    "time_constant",
    "warp",
]
