"""Boxes as arrays: ``(N, 4)`` float32, left, top, right, bottom."""

from __future__ import annotations

from typing import Final

import numpy as np

MOST_CANDIDATES: Final = 1000
"""Best boxes that suppression looks at; a picture with more is noise."""


def from_centres(boxes: np.ndarray) -> np.ndarray:
    """Corners from ``(N, 4)`` centre x, centre y, width, height."""
    centre, half = boxes[:, :2], boxes[:, 2:4] * 0.5
    return np.concatenate([centre - half, centre + half], axis=1)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other, ``(N, M)``; 0 where both are empty."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Area of each box, 0 for an inverted one."""
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None), axis=1)


def suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, *, overlap: float) -> np.ndarray:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: ``(N, 4)`` corners.
        scores: ``(N,)``.
        labels: ``(N,)`` class numbers.
        overlap: Intersection over union above which the weaker box of a class goes.

    Returns:
        Indices of what stays, best first.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    rivals = (overlaps(boxes[order], boxes[order]) > overlap) & (labels[order][:, None] == labels[order][None])
    alive = np.ones(len(order), bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= ~rivals[rank, rank + 1 :]
    return order[alive]
