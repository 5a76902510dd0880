"""RTSP cameras in, RTSP publishing out: media and engine under faults.

Names are imported on first use, so that ``import streamlight.live`` does not load libav.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamlight.live.camera import Camera as Camera
    from streamlight.live.camera_status import CameraEvent as CameraEvent
    from streamlight.live.camera_status import CameraState as CameraState
    from streamlight.live.camera_status import CameraStats as CameraStats
    from streamlight.live.delivery_status import DeliveryEvent as DeliveryEvent
    from streamlight.live.delivery_status import DeliveryStats as DeliveryStats
    from streamlight.live.faults import Fault as Fault
    from streamlight.live.options import CameraOptions as CameraOptions
    from streamlight.live.publish import Publisher as Publisher
    from streamlight.live.publish import PublishSettings as PublishSettings
    from streamlight.live.record import Recorder as Recorder
    from streamlight.live.record import RecordSettings as RecordSettings
    from streamlight.live.steady import SteadyRate as SteadyRate
    from streamlight.live.steady import SteadyStats as SteadyStats

_LAZY = {
    # cameras
    "Camera": "camera",
    "CameraEvent": "camera_status",
    "CameraOptions": "options",
    "CameraState": "camera_status",
    "CameraStats": "camera_status",
    "Fault": "faults",
    # publishing and recording
    "DeliveryEvent": "delivery_status",
    "DeliveryStats": "delivery_status",
    "PublishSettings": "publish",
    "Publisher": "publish",
    "RecordSettings": "record",
    "Recorder": "record",
    "SteadyRate": "steady",
    "SteadyStats": "steady",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
