"""Makes a video enhancer out of a model. The only room that joins models and temporal."""

from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.build import build_enhancer
from streamlight.enhance.compare import compare_planes

__all__ = ["EnhanceSettings", "Enhancer", "build_enhancer", "compare_planes"]
