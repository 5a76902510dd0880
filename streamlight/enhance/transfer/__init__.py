"""The operation that all real-time paths share."""

from streamlight.enhance.transfer.geometry import FrameGeometry, PlaneGeometry
from streamlight.enhance.transfer.guided import AffineMaps, GuidedTransfer

__all__ = ["AffineMaps", "FrameGeometry", "GuidedTransfer", "PlaneGeometry"]
