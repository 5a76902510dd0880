"""LLDiffusion (Wang et al., arXiv:2307.14659): noise-predicting U-Net steered by learned degradation features."""

from streamlight.models.lldiffusion.architecture import ARCHITECTURE
from streamlight.models.lldiffusion.config import LLDiffusionConfig, UNetConfig, deduce
from streamlight.models.lldiffusion.losses import Losses, antithetic_times, image_loss, noise_loss, training_losses
from streamlight.models.lldiffusion.model import LLDiffusion
from streamlight.models.lldiffusion.sampling import Sampling

__all__ = [
    "ARCHITECTURE",
    "LLDiffusion",
    "LLDiffusionConfig",
    "Losses",
    "Sampling",
    "UNetConfig",
    "antithetic_times",
    "deduce",
    "image_loss",
    "noise_loss",
    "training_losses",
]
