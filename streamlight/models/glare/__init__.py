"""GLARE: low-light enhancement via generative latent feature based codebook retrieval (Zhou et al., ECCV 2024)."""

from streamlight.models.glare.architecture import ARCHITECTURE, combine
from streamlight.models.glare.config import AutoencoderConfig, FlowConfig, GlareConfig
from streamlight.models.glare.model import Glare
from streamlight.models.glare.network import GlareNetwork
from streamlight.models.glare.vqgan import VQGAN

__all__ = [
    "ARCHITECTURE",
    "VQGAN",
    "AutoencoderConfig",
    "FlowConfig",
    "Glare",
    "GlareConfig",
    "GlareNetwork",
    "combine",
]
