"""Containers, codecs, timestamps, colour. Knows PyAV; knows no model.

Names are imported on first use, so that ``import streamlight.media`` does not load libav.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlight.media.frame import ColorSpec, Frame

if TYPE_CHECKING:
    from streamlight.media.codecs import check_codec as check_codec
    from streamlight.media.codecs import default_codec as default_codec
    from streamlight.media.codecs import muxer_for as muxer_for
    from streamlight.media.destination import check_destination as check_destination
    from streamlight.media.destination import disk_errors as disk_errors
    from streamlight.media.destination import partial_path as partial_path
    from streamlight.media.encode import EncoderPlan as EncoderPlan
    from streamlight.media.encode import EncodeSettings as EncodeSettings
    from streamlight.media.encode import plan_encoder as plan_encoder
    from streamlight.media.inputs import is_image_name as is_image_name
    from streamlight.media.inputs import list_inputs as list_inputs
    from streamlight.media.machine import Capabilities as Capabilities
    from streamlight.media.machine import capabilities as capabilities
    from streamlight.media.mux import JoinReport as JoinReport
    from streamlight.media.mux import join as join
    from streamlight.media.mux import keeps_rotation as keeps_rotation
    from streamlight.media.nvenc import device_refusal as device_refusal
    from streamlight.media.nvenc import takes_device_frames as takes_device_frames
    from streamlight.media.probing import Chapter as Chapter
    from streamlight.media.probing import SourceInfo as SourceInfo
    from streamlight.media.probing import StreamInfo as StreamInfo
    from streamlight.media.segments import SegmentInfo as SegmentInfo
    from streamlight.media.segments import SegmentWriter as SegmentWriter
    from streamlight.media.segments import verify_segment as verify_segment
    from streamlight.media.source import Source as Source
    from streamlight.media.source import open_source as open_source
    from streamlight.media.source import probe as probe
    from streamlight.media.stats import Position as Position
    from streamlight.media.stats import SourceStats as SourceStats
    from streamlight.media.stills import ImageSink as ImageSink
    from streamlight.media.stills import StillReport as StillReport
    from streamlight.media.stills import write_still as write_still
    from streamlight.media.surfaces import Surface as Surface
    from streamlight.media.urls import as_path as as_path
    from streamlight.media.urls import redact as redact
    from streamlight.media.versions import library_versions as library_versions

_LAZY = {
    # reading
    "Chapter": "probing",
    "Position": "stats",
    "Source": "source",
    "SourceInfo": "probing",
    "SourceStats": "stats",
    "StreamInfo": "probing",
    "Surface": "surfaces",
    "as_path": "urls",
    "is_image_name": "inputs",
    "library_versions": "versions",
    "list_inputs": "inputs",
    "open_source": "source",
    "probe": "source",
    "redact": "urls",
    # writing
    "Capabilities": "machine",
    "EncodeSettings": "encode",
    "EncoderPlan": "encode",
    "ImageSink": "stills",
    "JoinReport": "mux",
    "SegmentInfo": "segments",
    "SegmentWriter": "segments",
    "StillReport": "stills",
    "capabilities": "machine",
    "check_codec": "codecs",
    "check_destination": "destination",
    "default_codec": "codecs",
    "device_refusal": "nvenc",
    "disk_errors": "destination",
    "join": "mux",
    "keeps_rotation": "mux",
    "muxer_for": "codecs",
    "partial_path": "destination",
    "plan_encoder": "encode",
    "takes_device_frames": "nvenc",
    "verify_segment": "segments",
    "write_still": "stills",
}

__all__ = ["ColorSpec", "Frame", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
