"""Small pictures with content, and pairs of them on disk, written by OpenCV and not by the product."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A coloured scene of gradients, discs and texture, ``(H, W, 3)`` uint8 RGB."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:height, 0:width]
    picture = np.stack([90 + 110 * xx / width, 80 + 100 * yy / height, 150 - 90 * xx / width], axis=-1)
    for _ in range(6):
        x, y, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(3, max(4, min(width, height) // 3))
        picture[(xx - x) ** 2 + (yy - y) ** 2 < radius**2] = rng.integers(30, 230, 3)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def darkened(picture: np.ndarray, seed: int = 1) -> np.ndarray:
    """An eighth of the brightness, with noise."""
    noise = np.random.default_rng(seed).normal(0, 1.0, picture.shape)
    return np.clip(picture / 8 + noise, 0, 255).astype(np.uint8)


def write(path: Path, rgb: np.ndarray) -> Path:
    """Write ``(H, W, 3)`` or ``(H, W)`` samples, RGB; the suffix chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)
    return path


def read(path: Path) -> np.ndarray:
    """``(H, W, 3)`` uint8 RGB."""
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]


def write_pairs(
    root: Path, sizes: list[tuple[int, int]], *, low: str = "low", reference: str = "high", prefixes: bool = False
) -> Path:
    """Pairs 1, 2, … of the given sizes as PNG; with prefixes they are called low1 and normal1."""
    for number, (width, height) in enumerate(sizes, 1):
        picture = scene(width, height, number)
        write(root / low / f"{'low' if prefixes else ''}{number}.png", darkened(picture))
        write(root / reference / f"{'normal' if prefixes else ''}{number}.png", picture)
    return root
