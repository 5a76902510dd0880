"""Checkpoints that survive: written beside, synced, then renamed, with the one before kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import torch

from streamlight.errors import ConfigError, MediaError
from streamlight.media import disk_errors, partial_path
from streamlight.media.destination import publish

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint_previous.pt"


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """Everything that decides how a run goes on. Random numbers follow from the seed and the step.

    Attributes:
        step: Optimiser steps taken.
        recipe: The resolved recipe, plain.
        data: Key of the pictures.
        module: State of the task's module.
        optimizer: State of the optimiser.
        scaler: State of the loss scaling; empty without.
        average: Averaged weights by name; empty without.
        window: Sums that the next line of the log is made of.
        seconds: Spent on training so far.
    """

    step: int
    recipe: dict[str, Any]
    data: str
    module: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    window: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write a checkpoint; the one before stays as ``checkpoint_previous.pt``.

    Raises:
        MediaError: It cannot be written (disk full, …). The checkpoints there are intact then.
    """
    target, previous = folder / CHECKPOINT, folder / PREVIOUS
    partial = partial_path(target)
    try:
        with disk_errors(target):
            _write({key: getattr(checkpoint, key) for key in _KEYS}, partial)
            if target.exists():
                _set_aside(target, previous)
        publish(partial, target, overwrite=True)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return target


def _set_aside(target: Path, previous: Path) -> None:
    """Keep ``target`` under a second name, so that at no moment, not even of a kill, there is none under the first."""
    second = partial_path(previous)
    second.unlink(missing_ok=True)
    try:
        os.link(target, second)
    except OSError:  # a file system without hard links: for a moment there is only the one before
        os.replace(target, previous)
    else:
        os.replace(second, previous)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, or the one before if that is damaged or missing.

    Returns:
        None if there is none.

    Raises:
        MediaError: There are only damaged ones.
    """
    problem: Exception | None = None
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            return Checkpoint(**content)
        except Exception as error:  # whatever a damaged file makes torch raise
            problem = problem or error
    if problem is not None:
        raise MediaError(f"{folder}: the checkpoint is damaged ({str(problem).splitlines()[0]})") from problem
    return None


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS))


def refuse_other_run(found: list[str], folder: Path) -> None:
    """Refuse to go on with another recipe.

    Args:
        found: What differs.
        folder: Of the run.

    Raises:
        ConfigError: Anything differs.
    """
    if found:
        more = f"; and {len(found) - 4} more" if len(found) > 4 else ""
        raise ConfigError(
            f"{folder} was trained with another recipe: {'; '.join(found[:4])}{more}. "
            f"Resume with {folder / 'recipe.yaml'}, or choose another output folder"
        )


def _write(content: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        watched = _Watched(file)
        try:
            torch.save(content, watched)  # type: ignore[arg-type]  # all that torch calls is there
        except Exception:
            # torch turns what the file raised into an error of its own, which does not say why.
            if watched.error is not None:
                raise watched.error from None
            raise


class _Watched:
    """A file that remembers why writing failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


_KEYS = tuple(entry.name for entry in fields(Checkpoint))
