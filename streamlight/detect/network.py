"""Detectors in ONNX files, run by onnxruntime."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamlight.cores import available_cores
from streamlight.detect.boxes import suppress
from streamlight.detect.detection import Detection
from streamlight.detect.layouts import Candidates, Layout, Scale, is_decoded, read_outputs, recognise
from streamlight.detect.names import assumed_names, names_in_metadata
from streamlight.detect.picture import Placement, placed_picture
from streamlight.errors import ConfigError, DeviceError, ModelError
from streamlight.media.frame import Frame

THRESHOLD: Final = 0.3
OVERLAP: Final = 0.5
MOST: Final = 300
"""Detections of one picture at most; the weakest go."""

_FLOATS: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_WHOLE: Final = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
_FREE_SIZE: Final = 640
"""Width and height for a model that takes any."""


class OnnxDetector:
    """A detector from an ONNX file: YOLOX, YOLOv5, YOLOv8 and later, DETR and its kin.

    Which of them it is, is told by the shapes of what it answers to an empty picture (see
    :mod:`streamlight.detect.layouts`).

    Args:
        file: The model.
        device: ``"auto"`` (CUDA where onnxruntime has it, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        names: Class names; None for those in the file, or COCO's where their number fits.
        threshold: Least score of what is reported, 0 to 1.
        overlap: Intersection over union above which the weaker of two boxes of a class is dropped; DETR and models
            with their own suppression need none.
        threads: CPU threads; None for a quarter of the cores, 4 at most, for decoding and enhancing go on beside.
        size: Width and height of the input for a model that takes any; None for 640x640.
        bgr: Overrides whether blue comes first.
        scale: Overrides the range of the input.

    Raises:
        ModelError: The file cannot be read, or is no detector of a known layout; onnxruntime is not installed.
        DeviceError: The device is not there.
        ConfigError: A number is out of range, or the names are not as many as the classes.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        device: str = "auto",
        names: Sequence[str] | None = None,
        threshold: float = THRESHOLD,
        overlap: float = OVERLAP,
        threads: int | None = None,
        size: tuple[int, int] | None = None,
        bgr: bool | None = None,
        scale: Scale | None = None,
    ) -> None:
        for key, value in (("threshold", threshold), ("overlap", overlap)):
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"detector {key} must be between 0 and 1, got {value}")
        self.file = Path(file)
        self._threshold, self._overlap = threshold, overlap
        self._threads = threads or max(1, min(4, available_cores() // 4))
        self._session, self.fallbacks = _open_session(self.file, device, self._threads)
        self._inputs = self._session.get_inputs()
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._check_task(metadata)
        self._size = self._input_size(size, metadata)
        given = tuple(names) if names is not None else names_in_metadata(metadata)
        self._names_from = "the caller" if names is not None else "the model's metadata" if given else "nowhere"
        self._layout, self._decoded = self._ask(len(given) if given else None)
        if any(port.type == "tensor(uint8)" for port in self._inputs):
            scale = "255"  # it can mean nothing else
        self._layout = replace(
            self._layout,
            bgr=self._layout.bgr if bgr is None else bgr,
            scale=self._layout.scale if scale is None else scale,
        )
        self.names: Sequence[str] = self._names(given)

    def __call__(self, frame: Frame, *, camera: str = "") -> list[Detection]:
        """What is in the frame, best first; boxes in its pixels."""
        size, turns = (frame.width, frame.height), int(frame.notes.get("turns", 0))
        placement = Placement.of(size, self._size, self._layout.fit, turns=turns)
        outputs = self._run(self._layout.feed(placed_picture(frame, placement)))
        found = read_outputs(self._layout, outputs, self._size, decoded=self._decoded)
        boxes = placement.to_source(found.boxes)
        return [self._detection(*item) for item in self._kept(replace(found, boxes=boxes))]

    def describe(self) -> dict[str, Any]:
        """See :meth:`Detector.describe`."""
        layout = self._layout
        return {
            "kind": "onnx",
            "file": self.file.name,
            "layout": layout.name,
            "input": f"{self._size[0]}x{self._size[1]}, {'BGR' if layout.bgr else 'RGB'}, {_RANGES[layout.scale]}",
            "classes": len(self.names),
            "names_from": self._names_from,
            "threshold": self._threshold,
            "providers": list(self._session.get_providers()),
            "threads": self._threads,
            "fallbacks": list(self.fallbacks),
        }

    def forget(self, camera: str) -> None:
        """Nothing is remembered."""

    def close(self) -> None:
        """Release the model; it cannot be used afterwards."""
        self._session = None

    def _kept(self, found: Candidates) -> list[tuple[np.ndarray, float, int]]:
        """Boxes that are sure enough, finite and not empty, without rivals, best first."""
        boxes, scores, labels = found.boxes, found.scores, found.labels
        fine = (scores >= max(self._threshold, 1e-6)) & np.isfinite(boxes).all(1) & (labels >= 0)
        fine &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, scores, labels = boxes[fine], scores[fine], labels[fine]
        if self._layout.strides:
            order = suppress(boxes, scores, labels, overlap=self._overlap)
        else:
            order = np.argsort(-scores, kind="stable")
        return [(boxes[i], float(scores[i]), int(labels[i])) for i in order[:MOST]]

    def _detection(self, box: np.ndarray, score: float, label: int) -> Detection:
        name = self.names[label] if label < len(self.names) else f"class {label}"
        left, top, right, bottom = map(float, box)
        return Detection(name, label, min(1.0, score), (left, top, right, bottom))

    def _run(self, picture: np.ndarray) -> list[np.ndarray]:
        if self._session is None:
            raise ModelError(f"{self.file}: the detector is closed")
        feeds: dict[str, np.ndarray] = {}
        for port in self._inputs:
            if port.type in _FLOATS and len(port.shape) == 4:
                feeds[port.name] = picture.astype(_FLOATS[port.type], copy=False)
            elif port.type == "tensor(uint8)" and len(port.shape) == 4:
                feeds[port.name] = np.rint(picture).astype(np.uint8)
            elif len(port.shape) == 2:  # RT-DETR: the size that boxes are wanted in, width first
                feeds[port.name] = np.array([self._size], _WHOLE[port.type])
            else:  # DETR: which pixels are picture
                shape = [want if isinstance(want, int) else have for want, have in zip(
                    port.shape, (1, self._size[1], self._size[0]), strict=True)]  # fmt: skip
                feeds[port.name] = np.ones(shape, _WHOLE[port.type])
        try:
            outputs: list[np.ndarray] = self._session.run(None, feeds)
        except Exception as error:  # onnxruntime's own types derive from nothing in common
            raise ModelError(f"{self.file}: onnxruntime failed on it: {_first_line(error)}") from error
        return outputs

    def _ask(self, names: int | None) -> tuple[Layout, bool]:
        """The layout, by what the model answers to a grey picture; and whether a YOLOX decodes its boxes itself."""
        grey = np.full((1, 3, self._size[1], self._size[0]), 0.5, np.float32)
        outputs = self._run(grey)
        shapes = {port.name: value.shape for port, value in zip(self._session.get_outputs(), outputs, strict=True)}
        layout = recognise(shapes, self._size, names=names, label=str(self.file))
        return layout, layout.name == "yolox" and is_decoded(outputs[layout.outputs[0]], self._size)

    def _names(self, given: tuple[str, ...] | None) -> tuple[str, ...]:
        classes = self._layout.classes
        if given is not None:
            if classes is not None and len(given) != classes:
                raise ConfigError(
                    f"{self.file}: has {classes} classes, but there are {len(given)} names (from {self._names_from})"
                )
            return given
        found = assumed_names(classes if classes is not None else 80)
        if found is not None:
            self._names_from = "COCO, assumed by the number of classes"
            return found
        return tuple(f"class {number}" for number in range(classes or 0))

    def _check_task(self, metadata: dict[str, str]) -> None:
        task = metadata.get("task", "detect")
        if task != "detect":
            raise ModelError(f"{self.file}: was exported for the task '{task}'; a detector ('detect') is needed")

    def _input_size(self, wanted: tuple[int, int] | None, metadata: dict[str, str]) -> tuple[int, int]:
        """Width and height of the picture input; checks that nothing is asked for that we do not have."""
        pictures = [port for port in self._inputs if len(port.shape) == 4]
        others = [port for port in self._inputs if len(port.shape) != 4]
        strange = [port.name for port in others if port.type not in _WHOLE or len(port.shape) not in (2, 3)]
        if len(pictures) != 1 or strange or pictures[0].type not in (*_FLOATS, "tensor(uint8)"):
            told = ", ".join(f"{port.name} {port.type} {port.shape}" for port in self._inputs)
            raise ModelError(f"{self.file}: takes {told}; expected one picture (1, 3, height, width)")
        batch, channels, height, width = pictures[0].shape
        if any(isinstance(have, int) and have != want for have, want in ((channels, 3), (batch, 1))):
            raise ModelError(f"{self.file}: takes {pictures[0].shape}; expected one picture (1, 3, height, width)")
        free = wanted or _size_in(metadata) or (_FREE_SIZE, _FREE_SIZE)
        return (width if isinstance(width, int) else free[0], height if isinstance(height, int) else free[1])


_RANGES: Final = {"255": "0 to 255", "1": "0 to 1", "imagenet": "ImageNet's mean and deviation"}


def _size_in(metadata: dict[str, str]) -> tuple[int, int] | None:
    """Width and height from ``imgsz``, which says "[height, width]"."""
    numbers = [int(word) for word in re.findall(r"\d+", metadata.get("imgsz", ""))]
    if not numbers or not all(32 <= number <= 8192 for number in numbers):
        return None
    return numbers[-1], numbers[0]


def _open_session(file: Path, device: str, threads: int) -> tuple[Any, tuple[str, ...]]:
    """A session and what was fallen back on."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise ModelError(
            f"{file}: ONNX detectors need onnxruntime; install the extra: pip install 'streamlight[detect]', "
            "or use the detector 'motion'"
        ) from error
    if not file.is_file():
        raise ModelError(f"detector {file}: does not exist; expected an .onnx file or 'motion'")
    providers, fallbacks = _providers(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # its warnings are about graphs, not for users
    # Threads that spin while they wait take the cores from decoder and enhancer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:
        raise ModelError(f"{file}: onnxruntime cannot load it as an ONNX model: {_first_line(error)}") from error
    if "CUDAExecutionProvider" not in session.get_providers() and len(providers) > 1:
        if device != "auto":
            raise DeviceError(f"detector device {device!r}: onnxruntime could not start CUDA here; use 'cpu'")
        fallbacks += ("CUDA could not be started: the detector runs on the CPU",)
    return session, fallbacks


def _providers(device: str, available: Sequence[str]) -> tuple[list[Any], tuple[str, ...]]:
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,3}))?", device)
    if match is None:
        raise DeviceError(f"unknown detector device {device!r}; use auto, cpu, cuda or cuda:N")
    has_cuda = "CUDAExecutionProvider" in available
    if device.startswith("cuda") and not has_cuda:
        raise DeviceError(
            f"detector device {device!r}: this onnxruntime has no CUDA; install onnxruntime-gpu, or use 'cpu'"
        )
    if device == "cpu" or not has_cuda:
        return ["CPUExecutionProvider"], ()
    return [("CUDAExecutionProvider", {"device_id": int(match[1] or 0)}), "CPUExecutionProvider"], ()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
