"""The clean pictures that dark ones are made of: which there are, and reading them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from streamlight.enhance.color import rgb_from_planes
from streamlight.errors import MediaError
from streamlight.media import is_image_name, open_source
from streamlight.media.inputs import VIDEO_SUFFIXES, natural_key
from streamlight.media.stillmeta import is_cut_off
from streamlight.training.data.pairs import Pair, training_pairs
from streamlight.training.degradation import is_radiance_name, read_radiance
from streamlight.training.recipe import DataRecipe

LONG_SIDE = 960
"""Clip frames are kept no larger than this."""

SMALLEST = 32
"""Sides of a picture that there is something to learn from."""


@dataclass(frozen=True, slots=True)
class Material:
    """A file that pictures are cut from.

    Attributes:
        name: Path below the data folder with forward slashes: what messages, lists and keys call it.
        path: Where it is.
        kind: What it holds.
        views: How many pictures it stands for.
    """

    name: str
    path: Path
    kind: Literal["photo", "radiance", "clip"]
    views: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What a recipe names.

    Attributes:
        materials: To be darkened; in a fixed order.
        pairs: Dark and well-lit already.
        idle: Entries of ``exclude`` that nothing is called.
    """

    materials: tuple[Material, ...]
    pairs: tuple[Pair, ...]
    idle: tuple[str, ...] = ()

    def names(self, root: Path) -> list[str]:
        """Everything that is learnt from, for credits: paths below a folder."""
        return [material.name for material in self.materials] + [relative(pair.low, root) for pair in self.pairs]


def find(recipe: DataRecipe, root: Path) -> Found:
    """Look for the files of a recipe; none of them is opened.

    Args:
        recipe: Its data section, with lists of names put in.
        root: Folder that its paths are relative to.

    Raises:
        MediaError: A folder is missing or holds nothing usable, pairs do not match, or everything is excluded.
    """
    materials: list[Material] = []
    for folder in recipe.photos:
        materials += (Material(n, p, "photo") for n, p in _files(root, folder, "photographs", is_image_name))
    for folder in recipe.radiance:
        found = _files(root, folder, "radiance maps", is_radiance_name)
        materials += (Material(n, p, "radiance", recipe.radiance_views) for n, p in found)
    for folder in recipe.clips:
        found = _files(root, folder, "clips", is_clip_name)
        materials += (Material(n, p, "clip", recipe.clip_frames) for n, p in found)
    named = {material.name: material for material in materials}
    kept = tuple(material for name, material in named.items() if not excluded(name, recipe.exclude))
    if named and not kept:
        raise MediaError(f"{root}: data.exclude leaves none of {len(named)} pictures and clips")
    pairs = [pair for folder in recipe.pairs for pair in training_pairs(root / folder)]
    left = tuple(pair for pair in pairs if not excluded(relative(pair.low, root), recipe.exclude))
    if pairs and not left:
        raise MediaError(f"{root}: data.exclude leaves none of {len(pairs)} pairs")
    names = [*named, *(relative(pair.low, root) for pair in pairs)]
    idle = tuple(pattern for pattern in recipe.exclude if not any(excluded(name, [pattern]) for name in names))
    return Found(kept, left, idle)


def excluded(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is listed or matches a pattern."""
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def relative(path: Path, root: Path) -> str:
    """Path below a folder with forward slashes; as it is where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def read_picture(path: Path) -> Tensor:
    """``(3, H, W)`` float32 encoded RGB in [0, 1] of a still, upright.

    Raises:
        MediaError: It cannot be read, is damaged, or holds no picture.
    """
    with open_source(path) as source:
        frame = next(source.frames(), None)
        if frame is None:
            raise MediaError(f"'{path}': no picture can be decoded")
        if frame.damaged or is_cut_off(path):
            raise MediaError(
                f"'{path}': is damaged, only part of the picture can be decoded; replace it or name it in data.exclude"
            )
        return rgb_from_planes(frame.planes, frame.color)


def read_views(material: Material) -> Iterator[Tensor]:
    """The pictures that a material holds, as many as it has views.

    Yields:
        ``(3, H, W)`` float32: encoded RGB in [0, 1], or linear radiance. Stills are yielded again and again; of a clip
        come frames spread over its length (again from the first where it has too few).

    Raises:
        MediaError: It cannot be read.
    """
    if material.kind == "clip":
        frames = spread_frames(material.path, material.views)
        for view in range(material.views):
            yield torch.from_numpy(frames[view % len(frames)]).permute(2, 0, 1).float() / 255.0
        return
    picture = read_radiance(material.path) if material.kind == "radiance" else read_picture(material.path)
    height, width = picture.shape[1:]
    if min(height, width) < SMALLEST:
        raise MediaError(
            f"'{material.path}': is {width}x{height}, expected at least {SMALLEST}x{SMALLEST}; "
            f"remove it or name it in data.exclude"
        )
    for _ in range(material.views):
        yield picture


def spread_frames(path: Path, count: int, *, long_side: int = LONG_SIDE) -> list[np.ndarray]:
    """Frames of a clip, evenly spread, without knowing its length before.

    Args:
        path: The clip; decoded once, from beginning to end.
        count: How many.
        long_side: They are scaled down to at most this.

    Returns:
        Up to ``count`` pictures, ``(H, W, 3)`` uint8 RGB, in order.

    Raises:
        MediaError: It cannot be read or holds no picture.
    """
    kept: list[np.ndarray] = []
    stride = 1
    with open_source(path, tonemap=True) as source:
        for index, frame in enumerate(source.frames()):
            if index % stride:
                continue
            kept.append(_small(rgb_from_planes(frame.planes, frame.color), long_side))
            if len(kept) == 2 * count:
                kept, stride = kept[::2], 2 * stride
    if not kept:
        raise MediaError(f"'{path}': no picture can be decoded")
    chosen = min(count, len(kept))
    return [kept[(2 * index + 1) * len(kept) // (2 * chosen)] for index in range(chosen)]


def _small(image: Tensor, long_side: int) -> np.ndarray:
    import cv2

    pixels = (image.permute(1, 2, 0) * 255.0).round().byte().numpy()
    share = long_side / max(pixels.shape[:2])
    if share >= 1.0:
        return np.ascontiguousarray(pixels)
    size = tuple(max(1, round(side * share)) for side in pixels.shape[1::-1])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def is_clip_name(path: Path) -> bool:
    """Whether the suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _files(root: Path, folder: str, what: str, wanted: Callable[[Path], bool]) -> list[tuple[str, Path]]:
    """Every file of a kind below a folder with its name, in natural order."""
    place = root / folder
    if place.is_file():
        return [(relative(place, root), place)]
    if not place.is_dir():
        raise MediaError(f"{place}: does not exist; {what} are looked for below --data ({root})")
    try:
        files = [p for p in place.rglob("*") if wanted(p) and p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise MediaError(f"cannot read {place}: {error.strerror or error}") from error
    if not files:
        raise MediaError(f"{place}: holds no {what}")
    return sorted(((relative(path, root), path) for path in files), key=lambda item: natural_key(item[0]))
