"""What comes out of detectors, told by its shapes, and how it is read.

========  =========================================  ==================================================  ============
layout    outputs                                    boxes                                               input
========  =========================================  ==================================================  ============
yolox     ``(1, cells, 5 + C)``                      centre and size, per cell (or already in pixels)    BGR, 0…255
yolov5    ``(1, 3 cells, 5 + C)``                    centre and size in pixels                           RGB, 0…1
yolov8    ``(1, 4 + C, cells)``                      centre and size in pixels                           RGB, 0…1
end2end   ``(1, N, 6)``                              corners in pixels, score, class                     RGB, 0…1
detr      ``(1, N, 4)`` and ``(1, N, C)``            centre and size, relative; logits                   RGB
rtdetr    ``boxes``, ``labels`` and ``scores``       corners in pixels of ``orig_target_sizes``          RGB, 0…1
========  =========================================  ==================================================  ============

``cells`` are those of grids with strides 8, 16, 32 (and 64) on the input. C is the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from streamlight.detect.boxes import from_centres
from streamlight.detect.picture import Fit
from streamlight.errors import ModelError

LayoutName = Literal["yolox", "yolov5", "yolov8", "end2end", "detr", "rtdetr"]
Scale = Literal["255", "1", "imagenet"]

_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64))
_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
_STD: Final = np.array([0.229, 0.224, 0.225], np.float32)
_FEW_QUERIES: Final = 100
"""DETR asks this often, its successors 300 times and more."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model wants its picture and how its outputs are read.

    Attributes:
        name: See the module.
        outputs: Numbers of the outputs that are read: the one, or boxes and class scores (and labels).
        classes: Number of classes; None where the outputs do not say.
        fit: How the picture is fitted into the input.
        bgr: Whether blue comes first.
        scale: Range of the input: 0…255, 0…1, or with the mean and deviation of ImageNet.
        strides: Of the grids, where there are any.
        softmax: Whether the class scores compete.
        spare: Whether the last class means "nothing there".
        turned: Whether a row of the output is a box (and not a column).
    """

    name: LayoutName
    outputs: tuple[int, ...]
    classes: int | None
    fit: Fit
    bgr: bool = False
    scale: Scale = "1"
    strides: tuple[int, ...] = ()
    softmax: bool = False
    spare: bool = False
    turned: bool = False

    def feed(self, rgb: np.ndarray) -> np.ndarray:
        """The input ``(1, 3, H, W)`` float32 from an RGB picture ``(H, W, 3)``, [0, 1]."""
        if self.scale == "255":
            rgb = rgb * np.float32(255.0)
        elif self.scale == "imagenet":
            rgb = (rgb - _MEAN) / _STD
        if self.bgr:
            rgb = rgb[:, :, ::-1]
        return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a model said of one picture.

    Attributes:
        boxes: ``(N, 4)`` corners in pixels of the input, float32.
        scores: ``(N,)``, [0, 1].
        labels: ``(N,)`` class numbers.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def recognise(outputs: Mapping[str, Sequence[int]], size: tuple[int, int], *, names: int | None, label: str) -> Layout:
    """Tell the layout by the shapes that a model's outputs really had.

    Args:
        outputs: Shapes by name, in order.
        size: Width and height of the input.
        names: How many class names there are, if that is known.
        label: What to call the model in messages.

    Raises:
        ModelError: It is none of the known layouts.
    """
    keys, shapes = list(outputs), [tuple(shape) for shape in outputs.values()]
    found = _by_name(keys, shapes) or _one_output(shapes, size, names) or _two_outputs(keys, shapes, size, names)
    if found is None:
        told = ", ".join(f"{key} {shape}" for key, shape in zip(keys, shapes, strict=True))
        raise ModelError(
            f"{label}: its outputs for a {size[0]}x{size[1]} picture ({told}) are those of no known detector; expected "
            "YOLOX (1, cells, 5 + classes), YOLOv8 (1, 4 + classes, cells), DETR (1, queries, 4) and (1, queries, "
            "classes), or detections (1, N, 6)"
        )
    return found


def _by_name(keys: list[str], shapes: list[tuple[int, ...]]) -> Layout | None:
    """RT-DETR and D-FINE with their post-processing: boxes, labels and scores."""
    if {"boxes", "labels", "scores"} <= set(keys):
        boxes, scores, labels = (keys.index(key) for key in ("boxes", "scores", "labels"))
        if len(shapes[boxes]) == 3 and len(shapes[labels]) == len(shapes[scores]) == 2:
            return Layout("rtdetr", (boxes, scores, labels), None, "stretch")
    return None


def _one_output(shapes: list[tuple[int, ...]], size: tuple[int, int], names: int | None) -> Layout | None:
    flat = [number for number, shape in enumerate(shapes) if len(shape) == 3]
    if len(flat) != 1:
        return None
    number = flat[0]
    rows, columns = shapes[number][1:]
    for strides in _STRIDES:
        cells = count_cells(size, strides)
        if names is not None and rows == cells and columns == 4 + names:
            return Layout("yolov8", (number,), names, "center", strides=strides, turned=True)
        if rows == cells and columns >= 6:
            return Layout("yolox", (number,), columns - 5, "corner", bgr=True, scale="255", strides=strides)
        if rows == 3 * cells and columns >= 6:
            return Layout("yolov5", (number,), columns - 5, "center", strides=strides)
        if columns == cells and rows >= 5 and len(shapes) == 1:
            return Layout("yolov8", (number,), rows - 4, "center", strides=strides)
    if columns == 6:
        return Layout("end2end", (number,), None, "center")
    return None


def _two_outputs(
    keys: list[str], shapes: list[tuple[int, ...]], size: tuple[int, int], names: int | None
) -> Layout | None:
    flat = [number for number, shape in enumerate(shapes) if len(shape) == 3]
    boxes = [number for number in flat if shapes[number][2] == 4]
    if len(flat) < 2 or not boxes:
        return None
    # With four classes both look like boxes: the name decides.
    box = max(boxes, key=lambda number: "box" in keys[number].lower() or keys[number].lower() == "dets")
    queries = shapes[box][1]
    others = [number for number in flat if number != box and shapes[number][1] == queries]
    if not others or any(queries == count_cells(size, strides) for strides in _STRIDES):
        return None  # boxes of a grid, in pixels: something else
    logits = max(others, key=lambda number: any(word in keys[number].lower() for word in ("logit", "label", "class")))
    width = shapes[logits][2]
    rf_detr = keys[box].lower() == "dets"
    if names is not None and names in (width, width - 1):
        spare = names == width - 1
    else:
        spare = not rf_detr and (width == 92 or (queries <= _FEW_QUERIES and width not in (80, 91)))
    softmax = spare and not rf_detr  # DETR's classes compete; those of its successors do not
    return Layout(
        "detr",
        (box, logits),
        width - 1 if spare else width,
        "stretch",
        scale="imagenet" if softmax or rf_detr else "1",  # RT-DETR and its kin take the plain picture
        softmax=softmax,
        spare=spare,
    )


def read_outputs(
    layout: Layout, outputs: Sequence[np.ndarray], size: tuple[int, int], *, decoded: bool = False
) -> Candidates:
    """Boxes, best scores and classes from the outputs for one picture.

    Args:
        layout: Of the model.
        outputs: All its outputs.
        size: Width and height of the input.
        decoded: Of YOLOX: whether boxes come in pixels and not per cell.
    """
    parts = [np.asarray(outputs[number], np.float32)[0] for number in layout.outputs]
    if layout.name == "rtdetr":
        return Candidates(parts[0], parts[1], np.asarray(outputs[layout.outputs[2]])[0].astype(np.int64))
    if layout.name == "end2end":
        return Candidates(parts[0][:, :4], parts[0][:, 4], parts[0][:, 5].astype(np.int64))
    if layout.name == "detr":
        chances = _probabilities(parts[1], softmax=layout.softmax)
        scores, labels = _best(chances[:, :-1] if layout.spare else chances)
        return Candidates(from_centres(parts[0]) * np.array([*size, *size], np.float32), scores, labels)
    table = parts[0].T if layout.name == "yolov8" and not layout.turned else parts[0]
    if layout.name == "yolov8":
        scores, labels = _best(table[:, 4:])
    else:
        scores, labels = _best(table[:, 5:])
        scores = scores * table[:, 4]
    boxes = table[:, :4]
    if layout.name == "yolox" and not decoded:
        boxes = _from_cells(boxes, size, layout.strides)
    return Candidates(from_centres(boxes), scores, labels)


def is_decoded(output: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether an output of YOLOX holds boxes in pixels: their centres then lie all over the picture."""
    return float(np.median(np.abs(output[0, :, :2]))) > 0.125 * min(size)


def count_cells(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Cells of the grids with those strides on a picture of that size (width, height)."""
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in strides)


def _from_cells(boxes: np.ndarray, size: tuple[int, int], strides: tuple[int, ...]) -> np.ndarray:
    corners, steps = _cells(size, strides)
    # A network may shout; e^80 is still a float32.
    return np.concatenate([(boxes[:, :2] + corners) * steps, np.exp(np.minimum(boxes[:, 2:4], 80.0)) * steps], axis=1)


@lru_cache(maxsize=8)
def _cells(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of every cell, ``(cells, 2)``, and its stride, ``(cells, 1)``."""
    corners, steps = [], []
    for stride in strides:
        wide, high = math.ceil(size[0] / stride), math.ceil(size[1] / stride)
        y, x = np.mgrid[0:high, 0:wide]
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((wide * high, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _probabilities(logits: np.ndarray, *, softmax: bool) -> np.ndarray:
    if softmax:
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))


def _best(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = scores.argmax(1)
    return scores[np.arange(len(scores)), labels], labels
