"""Detectors and sinks by what a user writes on the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from streamlight.detect.detection import DetectionEvent, Detector
from streamlight.detect.sink import EventSink
from streamlight.errors import ConfigError
from streamlight.media.urls import is_url, redact

MOTION = "motion"


def load_detector(
    spec: str | os.PathLike[str],
    *,
    device: str = "auto",
    names: str | os.PathLike[str] | Sequence[str] | None = None,
    threshold: float | None = None,
    threads: int | None = None,
) -> Detector:
    """Make a detector.

    Args:
        spec: ``"motion"``, or an ``.onnx`` file.
        device: Where a network runs: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        names: Class names of a network, or a file with them.
        threshold: Least score of what is reported, 0 to 1; None for the detector's own.
        threads: CPU threads of a network.

    Raises:
        ConfigError: There is no such detector, or a setting is out of range or not one of it.
        ModelError: The file is no detector that is known, or onnxruntime is not installed.
        DeviceError: The device is not there.
    """
    text = os.fspath(spec)
    if text == MOTION:
        from streamlight.detect.motion import MotionDetector

        if names is not None:
            raise ConfigError("the detector 'motion' has no classes: class names are for networks")
        return MotionDetector() if threshold is None else MotionDetector(threshold=threshold)
    if Path(text).suffix.lower() != ".onnx":
        raise ConfigError(f"detector '{redact(text)}': expected 'motion' or an .onnx file")
    from streamlight.detect.names import read_names
    from streamlight.detect.network import THRESHOLD, OnnxDetector

    known = read_names(names) if isinstance(names, str | os.PathLike) else names
    return OnnxDetector(
        text, device=device, names=known, threshold=THRESHOLD if threshold is None else threshold, threads=threads
    )


def open_sink(
    spec: str | os.PathLike[str] | Callable[[DetectionEvent], object], *, overwrite: bool = False
) -> EventSink:
    """Open a sink for events.

    Args:
        spec: A file for JSON Lines (appended to; ``"-"`` is stdout), ``mqtt://…`` or ``mqtts://…``
            (:class:`~streamlight.detect.mqtt.MqttSink`), ``http://…`` or ``https://…``
            (:class:`~streamlight.detect.webhook.WebhookSink`), or a function. ``${NAME}`` in an address stands for an
            environment variable, so that a password need not stand on the command line.
        overwrite: Whether a file is begun anew and not appended to.

    Raises:
        ConfigError: The address is none, or a variable is not set.
        MediaError: The file cannot be written.
    """
    if callable(spec):
        from streamlight.detect.callback import CallbackSink

        return CallbackSink(spec)
    text = os.fspath(spec)
    if not is_url(text):
        from streamlight.detect.jsonlines import JsonLinesSink

        return JsonLinesSink(text.removeprefix("file://"), overwrite=overwrite)
    address = expand_variables(text)
    scheme = address.partition("://")[0].lower()
    if scheme in ("mqtt", "mqtts"):
        from streamlight.detect.mqtt import MqttSink

        return MqttSink(address)
    if scheme in ("http", "https"):
        from streamlight.detect.webhook import WebhookSink

        return WebhookSink(address)
    raise ConfigError(f"event sink {redact(address)}: expected a file, mqtt://, mqtts://, http:// or https://")


def expand_variables(text: str) -> str:
    """``text`` with every ``${NAME}`` replaced by that environment variable.

    Raises:
        ConfigError: One is not set.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise ConfigError(f"{redact(text)}: the environment variable {name} is not set")
        return os.environ[name]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)
