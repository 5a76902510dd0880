"""The synthetic validation set: photographs kept out of training, darkened the same way on every machine.

Definition. The photographs are those that ``configs/train/held_out.txt`` names, below the folder of the data. Each is
read as 8-bit RGB as it is displayed, reduced to a long side of at most 640 pixels (area), and degraded as a still with
the default ranges of :class:`~streamlight.training.degradation.DegradationRanges`. Parameters and noise come from the
generators ``SHA-256("synthetic-1/parameters/" + name)`` and ``…/noise/…``, so that a picture does not depend on its
neighbours. Dark picture and target are stored as 8-bit PNG: from there on, files go the way of all files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from streamlight.config import suggestion
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.datasets import Pair, dataset_names, find_pairs
from streamlight.evaluation.making import digest, generator, made
from streamlight.media import open_source
from streamlight.media.stills import to_rgb
from streamlight.models.record import file_digest
from streamlight.training.degradation import DegradationParameters, degrade_image, sample_parameters

NAME: Final = "synthetic"
VERSION: Final = "synthetic-1"
LONG_SIDE: Final = 640


def held_out() -> list[str]:
    """Names of the photographs that are never trained on, relative to the folder of the data."""
    text = (resources.files("streamlight.configs") / "train" / "held_out.txt").read_text("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def parameters_of(name: str) -> DegradationParameters:
    """What is done to the photograph ``name``."""
    return sample_parameters(generator(VERSION, "parameters", name), kind="still")


@contextmanager
def synthetic_pairs(
    root: str | Path, *, names: Sequence[str] | None = None, cache: str | Path | None = None
) -> Iterator[list[Pair]]:
    """The pairs of the set, as files that are there until the block ends.

    Args:
        root: The folder of the data, which ``names`` are relative to.
        names: Photographs; None for :func:`held_out`.
        cache: Folder to keep the files in; a later call takes them from there.

    Raises:
        MediaError: A photograph is missing or cannot be read, or the cache cannot be written.
    """
    names = list(held_out() if names is None else names)
    files = [Path(root, name) for name in names]
    for file in files:
        if not file.is_file():
            raise MediaError(f"{file}: is missing; the synthetic set is made of the photographs in held_out.txt")

    def make(folder: Path) -> None:
        (folder / "low").mkdir()
        (folder / "high").mkdir()
        for name, file in zip(names, files, strict=True):
            dark, target = degraded(name, read_photograph(file))
            _write(folder / "low" / f"{_stem(name)}.png", dark)
            _write(folder / "high" / f"{_stem(name)}.png", target)

    key = digest(VERSION, [[name, file_digest(file)] for name, file in zip(names, files, strict=True)])
    with made(NAME, key, make, cache=cache) as folder:
        yield [Pair(s, folder / "low" / f"{s}.png", folder / "high" / f"{s}.png") for s in map(_stem, names)]


@contextmanager
def found_pairs(
    *,
    pairs: str | Path | None = None,
    dataset: str | None = None,
    root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Iterator[tuple[str, list[Pair]]]:
    """Like :func:`streamlight.evaluation.datasets.find_pairs`, with the synthetic set among the datasets.

    Raises:
        ConfigError: As there, or ``cache`` was given for files that are not made here.
        MediaError: As there and in :func:`synthetic_pairs`.
    """
    if pairs is None and dataset == NAME and root is not None:
        with synthetic_pairs(root, cache=cache) as found:
            yield NAME, found
        return
    if cache is not None and dataset != NAME:
        raise ConfigError("--cache belongs to --dataset synthetic")
    known = [*dataset_names(), NAME]
    if dataset is not None and dataset not in known:
        raise ConfigError(f"unknown dataset '{dataset}'{suggestion(dataset, known)} (datasets: {', '.join(known)})")
    yield find_pairs(pairs=pairs, dataset=dataset, root=root)


def degraded(name: str, photograph: Tensor) -> tuple[Tensor, Tensor]:
    """Dark picture and target of a photograph, ``(3, H, W)`` float RGB in [0, 1] like itself."""
    pair = degrade_image(photograph, parameters_of(name), generator=generator(VERSION, "noise", name))
    return pair.low, pair.target


def read_photograph(path: Path) -> Tensor:
    """``(3, H, W)`` float RGB in [0, 1], at most 640 pixels long."""
    with open_source(path) as source:
        frame = next(source.frames(), None)
    if frame is None or frame.damaged:
        raise MediaError(f"{path}: no undamaged picture can be decoded")
    rgb = to_rgb(frame, 8)
    factor = LONG_SIDE / max(rgb.shape[:2])
    if factor < 1.0:
        height, width = (max(1, round(side * factor)) for side in rgb.shape[:2])
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float() / 255.0


def _stem(name: str) -> str:
    """``"train/photos/kodak/04.png"`` → ``"kodak_04"``: stems alone are not unique."""
    path = PurePosixPath(name)
    return f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem


def _write(path: Path, picture: Tensor) -> None:
    rgb = (picture.clamp(0.0, 1.0) * 255.0).round().byte().permute(1, 2, 0).numpy()
    if not cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1])):
        raise MediaError(f"{path}: cannot be written; is there space left on the disk?")
