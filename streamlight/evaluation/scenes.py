"""Synthetic clips to measure on: the same frames on every machine, from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from streamlight.media.clips import write_clip
from streamlight.media.encode import EncodeSettings
from streamlight.media.frame import ColorSpec, Frame

Scene = Literal["busy", "dark"]
SCENES: tuple[Scene, ...] = ("busy", "dark")
RATE = Fraction(30)
_BACKWARDS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_COLOR = ColorSpec(primaries="bt709", transfer="bt709", tags=(1, 1, 1, 1))


def scene_frames(scene: Scene, *, frames: int, width: int = 1920, height: int = 1080, seed: int = 1) -> Iterator[Frame]:
    """Yield frames of a synthetic scene.

    Args:
        scene: ``"busy"``, a daylight-like pan over detailed texture with things moving across it, every pixel
            changing; or ``"dark"``, a still, dark view (mean luma about 10 codes above black) with sensor noise and
            one thing that moves.
        frames: How many.
        width: Luma width in pixels, even.
        height: Luma height in pixels, even.
        seed: Of textures and noise.

    Yields:
        8-bit 4:2:0 frames, BT.709, limited range, 30 a second.
    """
    rng = np.random.default_rng([seed, SCENES.index(scene)])
    world = _texture(rng, height + 64, width + 640)
    chroma = [cv2.resize(_texture(rng, 90, 160), (width // 2 + 320, height // 2 + 32)) for _ in range(2)]
    tall, wide = height // 5, width // 6
    sprite = _texture(rng, tall, wide)
    grain = rng.standard_normal((height + 32, width + 32)).astype(np.float32)
    busy = scene == "busy"
    for index in range(frames):
        view = _view(index, width, height) if busy else np.array([[1.0, 0, 200], [0, 1.0, 20]])
        luma = cv2.warpAffine(world, view, (width, height), flags=_BACKWARDS)
        for k in range(6 if busy else 1):
            left = (137 * k + (9 + 3 * k) * index) % (width - wide)
            top = (k * height) // 7
            luma[top : top + tall, left : left + wide] = sprite * (0.6 + 0.1 * k)
        planes = [luma]
        half = view * [[1, 1, 0.5], [1, 1, 0.5]]
        planes += [cv2.warpAffine(plane, half, (width // 2, height // 2), flags=_BACKWARDS) for plane in chroma]
        dx, dy = rng.integers(0, 32, 2)
        noise = grain[dy : dy + height, dx : dx + width]
        yield _frame(planes, noise, index, dark=not busy)


def _view(index: int, width: int, height: int) -> np.ndarray:
    """Where a camera that pans, turns and zooms a little looks: output pixel to world pixel, (2, 3)."""
    zoom, turn = 0.97 + 0.03 * np.sin(index / 25), 0.012 * np.sin(index / 18)
    a, b = zoom * np.cos(turn), zoom * np.sin(turn)
    x, y = 320 + 290 * np.sin(index / 40), 32 + 20 * np.sin(index / 15)
    cx, cy = width / 2, height / 2
    return np.array([[a, -b, x + cx - a * cx + b * cy], [b, a, y + cy - b * cx - a * cy]])


def write_scene(path: Path, scene: Scene, *, frames: int, width: int = 1920, height: int = 1080) -> Path:
    """Write a synthetic scene as H.264, as cameras do (x264 ``veryfast``, CRF 23)."""
    settings = EncodeSettings(codec="h264", quality=23, preset="veryfast")
    write_clip(path, scene_frames(scene, frames=frames, width=width, height=height), settings=settings, rate=RATE)
    return path


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise with the spectrum of natural pictures (amplitude about 1/f) and edges; float32 in [0, 1]."""
    out = np.zeros((height, width), np.float32)
    for octave in range(8):
        size = max(1, (width >> 1) >> octave), max(1, (height >> 1) >> octave)
        layer = rng.standard_normal((size[1], size[0])).astype(np.float32)
        out += 1.3**octave * cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)
    out = (out - out.mean()) / out.std()
    steps = np.round(out * 2) / 2  # flat regions with edges between them
    return np.clip(0.5 + 0.17 * (0.6 * steps + 0.4 * out), 0.0, 1.0).astype(np.float32)


def _frame(planes: list[np.ndarray], noise: np.ndarray, index: int, *, dark: bool) -> Frame:
    luma, *chroma = planes
    if dark:
        codes = 16 + 20 * luma**2 + (1.2 + 1.5 * luma) * noise
        spread = 6.0
    else:
        codes = 30 + 180 * luma + 2.0 * noise
        spread = 60.0
    out = [np.clip(np.rint(codes), 16, 235).astype(np.uint8)]
    out += [np.clip(np.rint(128 + spread * (plane - 0.5)), 16, 240).astype(np.uint8) for plane in chroma]
    return Frame(tuple(out), _COLOR, pts=index, time_base=1 / RATE, duration=1, index=index)
