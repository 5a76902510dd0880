"""Detectors, and where their results go.

Names are imported on first use, so that ``import streamlight.detect`` loads neither OpenCV nor onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlight.detect.detection import Detection, DetectionEvent, Detector, Picture

if TYPE_CHECKING:
    from streamlight.detect.callback import CallbackSink as CallbackSink
    from streamlight.detect.draw import draw_boxes as draw_boxes
    from streamlight.detect.jsonlines import JsonLinesSink as JsonLinesSink
    from streamlight.detect.motion import MotionDetector as MotionDetector
    from streamlight.detect.mqtt import MqttSink as MqttSink
    from streamlight.detect.network import OnnxDetector as OnnxDetector
    from streamlight.detect.observer import DetectOn as DetectOn
    from streamlight.detect.observer import Observer as Observer
    from streamlight.detect.opening import load_detector as load_detector
    from streamlight.detect.opening import open_sink as open_sink
    from streamlight.detect.sink import EventSink as EventSink
    from streamlight.detect.sink import SinkStats as SinkStats
    from streamlight.detect.webhook import WebhookSink as WebhookSink

_LAZY = {
    "CallbackSink": "callback",
    "DetectOn": "observer",
    "EventSink": "sink",
    "JsonLinesSink": "jsonlines",
    "MotionDetector": "motion",
    "MqttSink": "mqtt",
    "Observer": "observer",
    "OnnxDetector": "network",
    "SinkStats": "sink",
    "WebhookSink": "webhook",
    "draw_boxes": "draw",
    "load_detector": "opening",
    "open_sink": "opening",
}

__all__ = ["Detection", "DetectionEvent", "Detector", "Picture", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
