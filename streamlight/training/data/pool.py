"""Pairs made once, ahead of the training, and read from disk ever after.

Every pair of a pool depends on the seed and its number only, so that any number of worker processes makes the same
pool. A pool is one file of samples and a table; its folder is named after everything that decides what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamlight.errors import MediaError
from streamlight.media import disk_errors, partial_path
from streamlight.media.destination import publish
from streamlight.training.data.materials import Found, Material, read_picture, read_views
from streamlight.training.data.pairs import Pair
from streamlight.training.data.synthesis import Entry, make_pair, to_codes
from streamlight.training.data.workers import in_order
from streamlight.training.lock import sole_user
from streamlight.training.recipe import DataRecipe
from streamlight.training.seeds import generator

_FORMAT = 1
"""To be raised when the same recipe makes other pairs than before."""

Tell = Callable[[int, int], None]
"""Called with how many pairs are done, of how many."""


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one process at a time: all pairs of one file, which is then decoded once.

    Attributes:
        source: A file to darken, or a pair to read.
        wanted: ``(view, number of the pair)``.
    """

    source: Material | Pair
    wanted: tuple[tuple[int, int], ...]
    recipe: DataRecipe
    seed: int

    def run(self) -> list[tuple[int, Entry]]:
        """Make the pairs, each with its number.

        Raises:
            MediaError: A file cannot be read, or the two of a pair differ in size.
        """
        if isinstance(self.source, Pair):
            return [(number, read_pair(self.source)) for _, number in self.wanted]
        made = []
        by_view: dict[int, list[int]] = {}
        for view, number in self.wanted:
            by_view.setdefault(view, []).append(number)
        radiance = self.source.kind == "radiance"
        for view, image in enumerate(read_views(self.source)):
            for number in by_view.get(view, ()):
                entry = make_pair(
                    image, self.recipe, name=self.source.name, seed=self.seed, index=number, radiance=radiance
                )
                made.append((number, entry))
        return made


class Pool:
    """Pairs on disk, mapped into memory.

    Args:
        folder: Made by :func:`open_pool`.

    Attributes:
        names: Of the pairs, in order; the synthetic ones first.
        sizes: ``(N, 2)`` heights and widths.
        clean: Whether every pair has its noiseless dark picture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            header = json.loads((folder / "pool.json").read_text("utf-8"))
            table = np.load(folder / "table.npy")
            self._samples = np.memmap(folder / "samples.bin", np.uint8, "r")
        except (OSError, ValueError) as error:
            raise MediaError(
                f"{folder}: the pool cannot be read ({error}); remove the folder to make it anew"
            ) from error
        self.names: list[str] = header["names"]
        self.clean: bool = header["clean"]
        self._offsets = table[:, 0]
        self.sizes = table[:, 1:3]
        if len(self.names) != len(table) or header["bytes"] != self._samples.size:
            raise MediaError(f"{folder}: the pool is incomplete; remove the folder")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Entry:
        """A pair whose samples are read from disk when they are used."""
        offset = int(self._offsets[index])
        height, width = (int(side) for side in self.sizes[index])
        count, shape = 3 * height * width, (3, height, width)
        low, target = (self._samples[offset + k * count : offset + (k + 1) * count].reshape(shape) for k in (0, 1))
        clean = None
        if self.clean:
            clean = self._samples[offset + 2 * count : offset + 4 * count].view(np.uint16).reshape(shape)
        return Entry(self.names[index], low, target, clean)


def units(materials: Sequence[Material]) -> list[tuple[Material, int]]:
    """Every picture that the materials stand for, as (material, view)."""
    return [(material, view) for material in materials for view in range(material.views)]


def pool_key(found: Found, recipe: DataRecipe, *, seed: int) -> str:
    """Twelve hexadecimal digits of everything that decides what a pool holds: recipe, seed, names and sizes of files.

    Raises:
        MediaError: A file has gone.
    """
    files = [(material.name, str(material.path)) for material in found.materials]
    files += [(pair.name, str(path)) for pair in found.pairs for path in (pair.low, pair.reference)]
    try:
        sizes = [(name, os.stat(path).st_size) for name, path in files]
    except OSError as error:
        raise MediaError(f"{error.filename}: cannot be read ({error.strerror})") from error
    decides = recipe.model_dump(mode="json", exclude={"crop", "photos", "radiance", "clips", "pairs", "exclude"})
    text = json.dumps([_FORMAT, decides, seed, sizes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def open_pool(
    found: Found, recipe: DataRecipe, *, seed: int, folder: Path, workers: int = 1, tell: Tell | None = None
) -> Pool | None:
    """The pool of a recipe; made now if it is not there yet.

    Args:
        found: Files.
        recipe: What pairs are like, and how many are made of the materials.
        seed: Of the run.
        folder: Where pools are kept, each in a folder of its own.
        workers: Processes; with one, this process does it.
        tell: Told how far it is.

    Returns:
        None if nothing is kept: every pair is made anew in each step.

    Raises:
        MediaError: A file cannot be read, or the pool not be written.
    """
    place = folder / pool_key(found, recipe, seed=seed)
    jobs = plan_jobs(found, recipe, seed=seed)
    if not jobs:
        return None
    with sole_user(place, wait=True):
        if not (place / "pool.json").is_file():
            _make(jobs, place, clean=recipe.clean and not found.pairs, workers=workers, tell=tell)
    return Pool(place)


def plan_jobs(found: Found, recipe: DataRecipe, *, seed: int) -> list[Job]:
    """Which file gives which pairs: every picture is used before one is used again, in a random order each time."""
    every = units(found.materials)
    by_material: dict[Material, list[tuple[int, int]]] = {}
    for number in range(recipe.pool if every else 0):
        turn, place = divmod(number, len(every))
        if place == 0:
            order = torch.randperm(len(every), generator=generator(seed, "pool", turn)).tolist()
        material, view = every[order[place]]
        by_material.setdefault(material, []).append((view, number))
    made = sum(map(len, by_material.values()))
    jobs = [Job(material, tuple(wanted), recipe, seed) for material, wanted in by_material.items()]
    return jobs + [Job(pair, ((0, made + k),), recipe, seed) for k, pair in enumerate(found.pairs)]


def read_pair(pair: Pair) -> Entry:
    """A pair from two files.

    Raises:
        MediaError: One cannot be read, or they differ in size.
    """
    low, target = read_picture(pair.low), read_picture(pair.reference)
    if low.shape != target.shape:
        sizes = [f"{image.shape[2]}x{image.shape[1]}" for image in (low, target)]
        raise MediaError(f"{pair.low} is {sizes[0]}, but {pair.reference} is {sizes[1]}; a pair must be of one size")
    return Entry(pair.name, to_codes(low, 255).astype(np.uint8), to_codes(target, 255).astype(np.uint8))


def _make(jobs: list[Job], place: Path, *, clean: bool, workers: int, tell: Tell | None) -> None:
    total = sum(len(job.wanted) for job in jobs)
    names, table = [""] * total, np.zeros((total, 3), np.int64)
    samples = place / "samples.bin"
    partial = partial_path(samples)
    try:
        with disk_errors(samples):
            with open(partial, "wb") as file:
                for done, (number, entry) in enumerate(_made(jobs, workers), start=1):
                    names[number] = entry.name
                    table[number] = (file.tell(), *entry.low.shape[1:])
                    _write(file, entry, clean=clean)
                    if tell is not None:
                        tell(done, total)
                size = file.tell()
            np.save(place / "table.npy", table)
        publish(partial, samples, overwrite=True)
        # Last, so that a pool with this file is complete.
        header = {"names": names, "clean": clean, "bytes": size, "made": time.strftime("%Y-%m-%d %H:%M:%S")}
        note = place / "pool.json"
        with disk_errors(note):
            partial_path(note).write_text(json.dumps(header), "utf-8")
        publish(partial_path(note), note, overwrite=True)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _made(jobs: list[Job], workers: int) -> Iterator[tuple[int, Entry]]:
    for made in in_order(Job.run, jobs, workers=min(workers, len(jobs))):
        yield from made


def _write(file: Any, entry: Entry, *, clean: bool) -> None:
    file.write(entry.low.tobytes())
    file.write(entry.target.tobytes())
    if clean and entry.clean is not None:
        file.write(entry.clean.tobytes())
