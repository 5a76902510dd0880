"""Batches: which pictures a step sees, and how they get there.

Sample i of a run depends on the seed and i only. So a resumed run needs no more than its step, and the number of
processes changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from streamlight.errors import ConfigError
from streamlight.training.data.materials import Found, read_views
from streamlight.training.data.pool import Pool, units
from streamlight.training.data.synthesis import Entry, make_pair
from streamlight.training.data.workers import in_order
from streamlight.training.recipe import DataRecipe
from streamlight.training.seeds import generator
from streamlight.training.task import Batch


class Named(NamedTuple):
    """A batch with the names of its pictures."""

    batch: Batch
    names: list[str]


class Batches:
    """The batches of a run, by step.

    Args:
        found: Files of the recipe.
        pool: Pairs on disk; None if every one is made anew.
        recipe: Data section.
        seed: Of the run.
        size: Pictures in a batch.

    Raises:
        ConfigError: A picture is smaller than the crop, or there is no crop and they differ in size.
    """

    def __init__(self, found: Found, pool: Pool | None, recipe: DataRecipe, *, seed: int, size: int) -> None:
        self._pool, self._recipe, self._seed, self._size = pool, recipe, seed, size
        # With a pool the materials are in it.
        self._fresh = [] if recipe.pool else units(found.materials)
        self._kept = 0 if pool is None else len(pool)
        self._clean = recipe.clean and not found.pairs
        self._order = lru_cache(2)(self._shuffled)
        self._check_sizes()

    @property
    def epoch(self) -> int:
        """Samples until every picture was seen once."""
        return self._kept + len(self._fresh)

    def __getitem__(self, step: int) -> Named:
        """The batch of a step."""
        return self._batch(self._entries(step))

    def from_step(self, step: int, *, workers: int = 1) -> Generator[Named, None, None]:
        """Endless batches.

        Args:
            step: The first.
            workers: Processes that make pictures anew; pairs from a pool are read here.

        Raises:
            StreamlightError: A picture cannot be read or made.
        """
        for entries in in_order(self._entries, itertools.count(step), workers=workers if self._fresh else 1):
            yield self._batch(entries)

    def _entries(self, step: int) -> list[Entry]:
        return [self._sample(index) for index in range(step * self._size, (step + 1) * self._size)]

    def _batch(self, entries: list[Entry]) -> Named:
        batch = {name: _stacked([getattr(entry, name) for entry in entries]) for name in ("low", "target")}
        if self._clean:
            batch["clean"] = _stacked([entry.clean for entry in entries if entry.clean is not None])
        return Named(batch, [entry.name for entry in entries])

    def _sample(self, index: int) -> Entry:
        turn, place = divmod(index, self.epoch)
        entry = self._entry(int(self._order(turn)[place]), index)
        numbers = generator(self._seed, "sample", index)
        if self._recipe.crop is not None:
            height, width = self._recipe.crop
            rows, columns = entry.low.shape[1:]
            top = int(torch.randint(rows - height + 1, (), generator=numbers))
            left = int(torch.randint(columns - width + 1, (), generator=numbers))
            window = (slice(None), slice(top, top + height), slice(left, left + width))
            entry = _each(entry, window)
        if self._recipe.flips and bool(torch.rand((), generator=numbers) < 0.5):
            entry = _each(entry, (slice(None), slice(None), slice(None, None, -1)))
        return entry

    def _entry(self, item: int, index: int) -> Entry:
        if self._pool is not None and item < self._kept:
            return self._pool[item]
        material, view = self._fresh[item - self._kept]
        image = next(picture for k, picture in enumerate(read_views(material)) if k == view)
        radiance = material.kind == "radiance"
        return make_pair(image, self._recipe, name=material.name, seed=self._seed, index=index, radiance=radiance)

    def _shuffled(self, turn: int) -> np.ndarray:
        return torch.randperm(self.epoch, generator=generator(self._seed, "order", turn)).numpy()

    def _check_sizes(self) -> None:
        sizes = np.zeros((0, 2), np.int64) if self._pool is None else self._pool.sizes
        if self._fresh:
            sizes = np.concatenate([sizes, [self._recipe.size]])
        crop = self._recipe.crop
        if crop is not None:
            small = np.flatnonzero((sizes < np.array(crop)).any(1))
            if len(small):
                name = self._pool.names[small[0]] if self._pool is not None else "size"
                height, width = sizes[small[0]]
                raise ConfigError(f"data.crop {list(crop)} (height, width) is larger than '{name}', {height}x{width}")
        elif self._size > 1 and len(np.unique(sizes, axis=0)) > 1:
            raise ConfigError("the pairs differ in size: set data.crop: [height, width], or batch: 1")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_order"]  # a cache cannot be sent to another process
        state["_pool"] = None if self._pool is None else self._pool.folder
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool = None if state["_pool"] is None else Pool(state["_pool"])
        self._order = lru_cache(2)(self._shuffled)


def _each(entry: Entry, window: tuple[slice, ...]) -> Entry:
    clean = None if entry.clean is None else entry.clean[window]
    return Entry(entry.name, entry.low[window], entry.target[window], clean)


def _stacked(pictures: list[np.ndarray]) -> torch.Tensor:
    """``(N, 3, H, W)`` float32 in [0, 1]; only what is used is read from disk and converted."""
    result = np.empty((len(pictures), *pictures[0].shape), np.float32)
    for place, picture in zip(result, pictures, strict=True):
        np.divide(picture, np.float32(np.iinfo(picture.dtype).max), out=place, casting="unsafe", dtype=np.float32)
    return torch.from_numpy(result)
