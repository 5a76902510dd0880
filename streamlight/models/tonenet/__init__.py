"""Our own model, the default: a tone curve and a denoiser decided on a small copy."""

from streamlight.models.tonenet.architecture import ARCHITECTURE
from streamlight.models.tonenet.model import LOOKS, Look, Tonenet
from streamlight.models.tonenet.network import TonenetConfig, TonenetNetwork

__all__ = ["ARCHITECTURE", "LOOKS", "Look", "Tonenet", "TonenetConfig", "TonenetNetwork"]
