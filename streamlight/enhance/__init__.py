"""Makes a video enhancer out of a model. The only room that joins models and temporal."""

from streamlight.enhance.enhancer import Enhancer, EnhanceSettings, build_enhancer

__all__ = ["EnhanceSettings", "Enhancer", "build_enhancer"]
