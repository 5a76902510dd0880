"""Motion, latent smoothing, scene cuts, noise. Tensors in, tensors out; per-stream state lives here."""

from streamlight.temporal.cuts import is_cut
from streamlight.temporal.noise import CODE, coarse_luma, estimate_noise
from streamlight.temporal.recursion import motion_gate
from streamlight.temporal.smoothing import blend_prior
from streamlight.temporal.state import StreamState

__all__ = ["CODE", "StreamState", "blend_prior", "coarse_luma", "estimate_noise", "is_cut", "motion_gate"]
