"""A training run in its folder: pictures, steps, checkpoints, sheets and weights.

The folder holds ``recipe.yaml`` (resolved), ``checkpoint.pt`` and the one before, ``weights.safetensors``,
``log.jsonl``, ``sheets/step_*.png``, ``pool/``, and in ``pictures.txt`` the names of what was learnt from.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from streamlight.cores import available_cores
from streamlight.enhance.build import find_device
from streamlight.errors import ConfigError
from streamlight.media import disk_errors, partial_path
from streamlight.media.destination import publish
from streamlight.memory import keep_freed_memory
from streamlight.models.weights import write_safetensors
from streamlight.training.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    refuse_other_run,
    save_checkpoint,
)
from streamlight.training.data.batches import Batches
from streamlight.training.data.materials import find
from streamlight.training.data.pool import open_pool, pool_key
from streamlight.training.lock import sole_user
from streamlight.training.log import Log, Window
from streamlight.training.loop import Trainer
from streamlight.training.recipe import FREE_ON_RESUME, Recipe, differences, read_recipe, write_recipe
from streamlight.training.seeds import seed_of
from streamlight.training.sheet import write_sheet
from streamlight.training.tasks import find_task

Reason = Literal["finished", "time", "interrupted"]

WEIGHTS = "weights.safetensors"
_SHEET_ROWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a recipe is run here; nothing of it decides what comes out.

    Attributes:
        data: Folder that the recipe's folders are relative to.
        resume: Whether to go on with the run in the folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_hours: Stop (with a checkpoint) after this time.
        steps: Instead of the recipe's.
        tensorboard: Whether to log for TensorBoard too.
        threads: Of torch on the CPU; None leaves them as they are.
        workers: Processes that make pictures; None takes as many as there are cores.
        pool: Folder where pools are kept, to share them between runs; None keeps them in the folder of the run.
    """

    data: Path = Path()
    resume: bool = False
    device: str = "auto"
    max_hours: float | None = None
    steps: int | None = None
    tensorboard: bool = False
    threads: int | None = None
    workers: int | None = None
    pool: Path | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a run is.

    Attributes:
        phase: Making the pool, or training.
        done: Pairs or steps.
        total: Of them.
        values: Means of the last line of the log.
    """

    phase: Literal["pool", "train"]
    done: int
    total: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps taken in all.
        steps: Steps of the recipe.
        reason: Why it ended.
        weights: The exported file.
        notes: What was unusual, in words.
    """

    step: int
    steps: int
    reason: Reason
    weights: Path
    notes: tuple[str, ...]


def train(
    recipe: str | Path,
    folder: str | Path,
    *,
    settings: RunSettings | None = None,
    tell: Callable[[Moment], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Outcome:
    """Train by a recipe, or go on with it, until its steps are taken, the time is up, or Ctrl-C is pressed.

    However it ends, but by an error, there are a checkpoint and exported weights. An error leaves the last checkpoint.

    Args:
        recipe: YAML file.
        folder: Of the run; made if missing.
        settings: How to run it.
        tell: Told how far it is, often.
        note: Told what is unusual, at once; the outcome has it too.

    Raises:
        ConfigError: A wrong recipe; a folder that holds a run, without ``resume``; a run of another recipe, with it.
        MediaError: A picture cannot be read, pairs do not match, or the disk is full.
        ModelError: The weights to start from do not fit, or the training diverged.
        DeviceError: There is no such device.
    """
    settings = settings or RunSettings()
    keep_freed_memory()
    resolved = read_recipe(recipe, steps=settings.steps)
    run = _Run(resolved, Path(recipe), Path(folder), settings, tell or _ignore, note or _ignore)
    with sole_user(Path(folder), wait=False), _threads(settings.threads):
        return run.go()


class _Run:
    """One call of :func:`train`."""

    def __init__(
        self,
        recipe: Recipe,
        path: Path,
        folder: Path,
        settings: RunSettings,
        tell: Callable[[Moment], None],
        note: Callable[[str], None],
    ) -> None:
        start = None if recipe.start is None else str(find_start(recipe.start, path.parent, settings.data).resolve())
        self._recipe, self._path, self._folder = recipe.model_copy(update={"start": start}), path, folder
        self._settings, self._tell, self._say = settings, tell, note
        self._began = time.monotonic()
        self._notes: list[str] = []

    def go(self) -> Outcome:
        """From the recipe to the weights."""
        recipe, folder, settings = self._recipe, self._folder, self._settings
        checkpoint = self._open_folder()
        device = find_device(settings.device)
        batches, key = self._batches(checkpoint)
        start = None if recipe.start is None else Path(recipe.start)
        torch.manual_seed(seed_of(recipe.seed, "weights"))  # layers begin with numbers of the global generator
        task = find_task(recipe.task).build(recipe.options, start=start, device=device)
        trainer = Trainer(task, recipe, device=device)
        window = Window(recipe.log_every)
        if checkpoint is not None:
            trainer.load(checkpoint)
            window.load(checkpoint.window, seconds=checkpoint.seconds)
            del checkpoint  # its tensors were copied
        with closing(Log(folder, step=trainer.step, tensorboard=settings.tensorboard)) as log:
            reason = self._steps(trainer, batches, key, window, log)
        self._keep(trainer, key, window)
        if reason != "interrupted":
            self._sheet(trainer, batches)
        return Outcome(trainer.step, recipe.steps, reason, folder / WEIGHTS, tuple(self._notes))

    def _steps(self, trainer: Trainer, batches: Batches, key: str, window: Window, log: Log) -> Reason:
        recipe, settings = self._recipe, self._settings
        limit = math.inf if settings.max_hours is None else self._began + 3600.0 * settings.max_hours
        saved = time.monotonic()
        workers = _workers(settings)
        with _stop_requests() as stop, closing(batches.from_step(trainer.step, workers=workers)) as source:
            while trainer.step < recipe.steps:
                if stop.is_set():
                    return "interrupted"
                now = time.monotonic()
                if now >= limit:
                    return "time"
                if now - saved >= 60.0 * recipe.checkpoint_minutes:
                    self._keep(trainer, key, window)
                    saved = time.monotonic()
                begun = time.monotonic()
                named = next(source)
                waited = time.monotonic() - begun
                values = {**trainer.advance(named), "data_seconds": waited}
                window.add(values, seconds=time.monotonic() - begun)
                if window.complete:
                    log.write(trainer.step, {**window.take(), "seconds": round(window.seconds, 3)})
                if recipe.sheet_every and trainer.step % recipe.sheet_every == 0:
                    self._sheet(trainer, batches)
                self._tell(Moment("train", trainer.step, recipe.steps, window.latest))
        return "finished"

    def _open_folder(self) -> Checkpoint | None:
        """Find the run in the folder that this recipe began, if it is to go on."""
        folder, settings = self._folder, self._settings
        checkpoint = None
        if settings.resume:
            checkpoint = load_checkpoint(folder)
        elif has_checkpoint(folder):
            raise ConfigError(f"{folder} holds a run already; continue it with --resume, or choose another folder")
        if checkpoint is None:
            if settings.resume:
                self._note("there was no checkpoint to resume from: began anew")
        else:
            changed = differences(_movable(checkpoint.recipe), _movable(self._recipe.to_plain()))
            free = [text for text in changed if text.split(":")[0] in FREE_ON_RESUME]
            refuse_other_run([text for text in changed if text not in free], folder)
            for text in free:
                self._note(text)
        write_recipe(self._recipe, folder / "recipe.yaml")
        return checkpoint

    def _batches(self, checkpoint: Checkpoint | None) -> tuple[Batches, str]:
        """The pictures, made if they are not there yet, and their key."""
        recipe, settings = self._recipe, self._settings
        found = find(recipe.data, settings.data)
        if found.idle:
            self._note(
                f"data.exclude: {len(found.idle)} of {len(recipe.data.exclude)} entries match no picture, "
                f"for example {found.idle[0]}"
            )
        key = pool_key(found, recipe.data, seed=recipe.seed)
        if checkpoint is not None and checkpoint.data != key:
            raise ConfigError(
                f"{self._folder} was trained with other pictures than the recipe names in {settings.data} now: "
                f"files were added, removed or changed"
            )
        pool = open_pool(
            found,
            recipe.data,
            seed=recipe.seed,
            folder=settings.pool or self._folder / "pool",
            workers=_workers(settings),
            tell=lambda done, total: self._tell(Moment("pool", done, total, {})),
        )
        names = self._folder / "pictures.txt"
        with disk_errors(names):
            partial_path(names).write_text("".join(f"{name}\n" for name in found.names(settings.data)), "utf-8")
        publish(partial_path(names), names, overwrite=True)
        return Batches(found, pool, recipe.data, seed=recipe.seed, size=recipe.batch), key

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._say(text)

    def _keep(self, trainer: Trainer, key: str, window: Window) -> None:
        """Checkpoint and weights."""
        state = trainer.state(data=key, window=window.state(), seconds=window.seconds)
        save_checkpoint(state, self._folder)
        tensors, metadata = trainer.export()
        metadata = {**metadata, "training_recipe": self._path.name, "training_steps": str(trainer.step)}
        write_safetensors(self._folder / WEIGHTS, tensors, metadata=metadata)

    def _sheet(self, trainer: Trainer, batches: Batches) -> None:
        """The same few pictures every time."""
        named = batches[0]
        batch = {name: tensor[:_SHEET_ROWS] for name, tensor in named.batch.items()}
        path = self._folder / "sheets" / f"step_{trainer.step:07d}.png"
        write_sheet(path, trainer.pictures(batch), captions=trainer.task.captions, names=named.names[:_SHEET_ROWS])


def find_start(name: str, *folders: Path) -> Path:
    """The weights file to start from: beside the recipe, below the data, or as the current folder has it.

    Raises:
        ConfigError: It is nowhere there.
    """
    places = [folder / name for folder in folders] + [Path(name)]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(dict.fromkeys(str(place) for place in places))
    raise ConfigError(f"start: the weights file '{name}' does not exist; looked for {looked}")


def _movable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A plain recipe in which a weights file is known by its name: folders move, and the checkpoint has the weights."""
    return {**recipe, "start": recipe["start"] and Path(recipe["start"]).name}


def _ignore(_: object) -> None:
    """Nobody wants to be told."""


def _workers(settings: RunSettings) -> int:
    return available_cores() if settings.workers is None else settings.workers


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Threads of torch, meanwhile."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask for a stop after the step; a second Ctrl-C does not wait for it."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
