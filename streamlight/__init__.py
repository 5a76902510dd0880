"""streamlight: low-light video in, video that a person or a detector can use out.

The public surface is small: :func:`enhance_video` does a whole file, :func:`load` opens a model. Both are
imported on first use, so that ``import streamlight`` and ``streamlight --help`` stay instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlight.errors import ConfigError, DeviceError, MediaError, ModelError, StreamlightError

if TYPE_CHECKING:
    from streamlight.models import load as load
    from streamlight.pipelines.offline import enhance_video as enhance_video

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DeviceError",
    "MediaError",
    "ModelError",
    "StreamlightError",
    "__version__",
    "enhance_video",
    "load",
]

_LAZY = {"enhance_video": "streamlight.pipelines.offline", "load": "streamlight.models"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
