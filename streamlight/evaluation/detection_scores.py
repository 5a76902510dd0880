"""How good detections are: recall, precision and average precision as COCO defines them.

Within each class and picture, detections are taken by falling score (the first 100 of a picture); each takes the free
true box that it overlaps most, if by the threshold at least. Boxes to be ignored may be found or not: they count
neither way. Average precision is the mean of the precision, made monotone from the right, at the 101 recalls 0, 0.01,
…, 1; AP50 at the overlap 0.5, AP the mean over the overlaps 0.5, 0.55, …, 0.95, both averaged over the classes that
have true boxes (Lin et al., ECCV 2014, and its evaluation code).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamlight.detect.boxes import overlaps
from streamlight.detect.detection import Box, Detection

OVERLAPS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS: Final = np.linspace(0.0, 1.0, 101)
MOST: Final = 100


@dataclass(frozen=True, slots=True)
class TrueBox:
    """A box that is known.

    Attributes:
        label: Name of its class.
        box: Corners in pixels.
        ignored: Whether it counts neither as found nor as missed.
        crowd: Whether it stands for many things: then any number of detections inside it are ignored.
    """

    label: str
    box: Box
    ignored: bool = False
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector reaches; None where there is nothing to divide by.

    Attributes:
        recall: Found share of the true boxes at the overlap 0.5, by detections of the operating score and more.
        precision: Right share of those detections.
        ap50: Average precision at the overlap 0.5.
        ap: Average precision, mean over the overlaps 0.5 to 0.95.
        boxes: True boxes.
        found: Of them, found at the operating score.
        false: Detections of the operating score that are wrong.
    """

    recall: float | None
    precision: float | None
    ap50: float | None
    ap: float | None
    boxes: int
    found: int
    false: int


@dataclass(slots=True)
class _Judged:
    """Detections of one class in one picture, by falling score.

    Attributes:
        scores: ``(D,)``.
        right: ``(overlaps, D)``: found a box that counts.
        ignored: ``(overlaps, D)``: counts neither way.
        boxes: True boxes that count.
    """

    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    boxes: int


class DetectionMeter:
    """Collects pictures, then tells scores.

    Args:
        threshold: Operating score, for recall and precision.
    """

    def __init__(self, *, threshold: float) -> None:
        self._threshold = threshold
        self._judged: defaultdict[str, list[_Judged]] = defaultdict(list)
        self.pictures = 0

    def add(self, detections: Sequence[Detection], truth: Sequence[TrueBox]) -> None:
        """Take up one picture."""
        self.pictures += 1
        best = sorted(detections, key=lambda one: -one.score)[:MOST]
        for label in {one.label for one in best} | {one.label for one in truth}:
            self._judged[label].append(
                _judge([one for one in best if one.label == label], [one for one in truth if one.label == label])
            )

    def scores(self) -> Scores:
        """Over all classes."""
        return _scores([self._judged[label] for label in sorted(self._judged)], self._threshold)

    def by_label(self) -> dict[str, Scores]:
        """Of each class that has true boxes."""
        found = {label: _scores([judged], self._threshold) for label, judged in sorted(self._judged.items())}
        return {label: scores for label, scores in found.items() if scores.boxes}


def _judge(detections: Sequence[Detection], truth: Sequence[TrueBox]) -> _Judged:
    """Match detections of one class, best first, to the true boxes of one picture, at every overlap."""
    truth = sorted(truth, key=lambda one: one.ignored or one.crowd)  # boxes that count are offered first
    ignored = np.array([one.ignored or one.crowd for one in truth], bool)
    right = np.zeros((len(OVERLAPS), len(detections)), bool)
    passed = np.zeros_like(right)
    shared = _overlaps(detections, truth)
    for level, least in enumerate(OVERLAPS):
        taken = np.zeros(len(truth), bool)
        for number in range(len(detections)):
            match = _match(shared[number], least, taken, ignored, truth)
            if match is not None:
                taken[match] = True
                (passed if ignored[match] else right)[level, number] = True
    return _Judged(np.array([one.score for one in detections]), right, passed, int((~ignored).sum()))


def _match(
    shared: np.ndarray, least: float, taken: np.ndarray, ignored: np.ndarray, truth: Sequence[TrueBox]
) -> int | None:
    """The free box that is overlapped most, one that counts before one that does not."""
    match, most = None, min(least, 1.0 - 1e-10)
    for number, box in enumerate(truth):
        if taken[number] and not box.crowd:
            continue
        if match is not None and ignored[number] and not ignored[match]:
            break
        if shared[number] >= most:
            match, most = number, shared[number]
    return match


def _overlaps(detections: Sequence[Detection], truth: Sequence[TrueBox]) -> np.ndarray:
    """Intersection over union ``(D, T)``; over the detection's own area for crowds."""
    found = np.array([one.box for one in detections], np.float64).reshape(-1, 4)
    known = np.array([one.box for one in truth], np.float64).reshape(-1, 4)
    shared = overlaps(found, known)
    for number, one in enumerate(truth):
        if one.crowd:
            low, high = np.maximum(found[:, :2], known[number, :2]), np.minimum(found[:, 2:], known[number, 2:])
            own = np.prod(found[:, 2:] - found[:, :2], axis=1)
            shared[:, number] = np.prod(np.clip(high - low, 0.0, None), axis=1) / np.maximum(own, 1e-12)
    return shared


def _scores(classes: Iterable[Sequence[_Judged]], threshold: float) -> Scores:
    boxes = found = false = 0
    precisions: list[np.ndarray] = []
    for judged in classes:
        count = sum(one.boxes for one in judged)
        boxes += count
        sure = [one.scores >= threshold for one in judged]
        found += sum(int(one.right[0, kept].sum()) for one, kept in zip(judged, sure, strict=True))
        false += sum(
            int((~one.right[0, kept] & ~one.ignored[0, kept]).sum()) for one, kept in zip(judged, sure, strict=True)
        )
        if count:
            precisions.append(_average_precision(judged, count))
    mean = np.mean(precisions, axis=0) if precisions else None
    return Scores(
        recall=found / boxes if boxes else None,
        precision=found / (found + false) if found + false else None,
        ap50=None if mean is None else float(mean[0]),
        ap=None if mean is None else float(mean.mean()),
        boxes=boxes,
        found=found,
        false=false,
    )


def _average_precision(judged: Sequence[_Judged], boxes: int) -> np.ndarray:
    """Average precision of one class at every overlap, ``(overlaps,)``."""
    order = np.argsort(-np.concatenate([one.scores for one in judged]), kind="mergesort")
    right = np.concatenate([one.right for one in judged], axis=1)[:, order]
    ignored = np.concatenate([one.ignored for one in judged], axis=1)[:, order]
    result = np.zeros(len(OVERLAPS))
    for level in range(len(OVERLAPS)):
        hits, misses = np.cumsum(right[level]), np.cumsum(~right[level] & ~ignored[level])
        recall = hits / boxes
        precision = hits / np.maximum(hits + misses, 1e-12)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, RECALLS, side="left")
        result[level] = np.sum(precision[places[places < len(precision)]]) / len(RECALLS)
    return result
