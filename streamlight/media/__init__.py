"""Containers, codecs, timestamps, colour. Knows PyAV; knows no model.

Names are imported on first use, so that ``import streamlight.media`` does not load libav.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlight.media.frame import ColorSpec, Frame

if TYPE_CHECKING:
    from streamlight.media.inputs import list_inputs as list_inputs
    from streamlight.media.probing import Chapter as Chapter
    from streamlight.media.probing import SourceInfo as SourceInfo
    from streamlight.media.probing import StreamInfo as StreamInfo
    from streamlight.media.probing import probe as probe
    from streamlight.media.source import Position as Position
    from streamlight.media.source import Source as Source
    from streamlight.media.source import SourceStats as SourceStats
    from streamlight.media.source import open_source as open_source
    from streamlight.media.urls import redact as redact

_LAZY = {
    # reading
    "Chapter": "probing",
    "Position": "source",
    "Source": "source",
    "SourceInfo": "probing",
    "SourceStats": "source",
    "StreamInfo": "probing",
    "list_inputs": "inputs",
    "open_source": "source",
    "probe": "probing",
    "redact": "urls",
}

__all__ = ["ColorSpec", "Frame", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
