"""Enhancement without weights: exposure and illumination estimated on the small copy."""

from streamlight.models.retinex.retinex import Retinex

__all__ = ["Retinex"]
