"""The log of a run: a line of JSON now and then, and the same for TensorBoard if asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from streamlight.errors import ConfigError
from streamlight.media import disk_errors

LOG = "log.jsonl"


class Log:
    """Appends to ``log.jsonl`` in the folder of a run.

    Args:
        folder: Of the run.
        step: Where the run goes on; what was logged after it (by a run that was killed) is taken away.
        tensorboard: Whether to write ``tensorboard/`` too.

    Raises:
        ConfigError: TensorBoard is wanted and not installed.
        MediaError: The file cannot be written.
    """

    def __init__(self, folder: Path, *, step: int = 0, tensorboard: bool = False) -> None:
        self._path = folder / LOG
        self._board = _board(folder / "tensorboard", step) if tensorboard else None
        with disk_errors(self._path):
            lines = self._path.read_text("utf-8").splitlines() if step and self._path.exists() else []
            kept = [line for line in lines if _step_of(line) <= step]
            self._file = open(self._path, "w", encoding="utf-8")  # noqa: SIM115 (closed by close)
            self._file.writelines(f"{line}\n" for line in kept)
            self._file.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        with disk_errors(self._path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


class Window:
    """Means over the steps that a line of the log stands for.

    Args:
        size: Steps.

    Attributes:
        seconds: Spent on steps so far, pictures included.
        latest: The last means; those so far before the first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._rate = 0.0
        self._whole = False
        self.seconds = 0.0
        self.latest: dict[str, float] = {}

    @property
    def complete(self) -> bool:
        """Whether all steps are in."""
        return self._steps >= self._size

    def add(self, values: Mapping[str, float], *, seconds: float) -> None:
        """Take in a step.

        Args:
            values: As :meth:`streamlight.training.loop.Trainer.advance` returns them.
            seconds: That it took, pictures included.
        """
        self.seconds += seconds
        # One count per name: the gradient's norm is left out of steps that overflow.
        for name, value in {**values, "step_seconds": seconds}.items():
            if name == "rate":
                self._rate = value
                continue
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._sums[f"#{name}"] = self._sums.get(f"#{name}", 0.0) + 1.0
        self._steps += 1
        if not self._whole:
            self.latest = self._means()

    def take(self) -> dict[str, float]:
        """The means; the next window is empty."""
        self.latest = self._means()
        self._sums, self._steps, self._whole = {}, 0, True
        return self.latest

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {**self._sums, "#": float(self._steps)}

    def load(self, state: Mapping[str, float], *, seconds: float) -> None:
        """The inverse of :meth:`state`."""
        self._sums = {name: value for name, value in state.items() if name != "#"}
        self._steps, self.seconds = int(state.get("#", 0)), seconds

    def _means(self) -> dict[str, float]:
        names = [name for name in self._sums if not name.startswith("#")]
        means = {name: self._sums[name] / self._sums[f"#{name}"] for name in names}
        return {**means, "rate": self._rate}


def _step_of(line: str) -> float:
    """Step of a line; infinite for the torn last line of a run that was killed."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _board(folder: Path, step: int) -> Any:
    try:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "--tensorboard needs the package tensorboard; run: pip install 'streamlight[train]'"
        ) from error
    return writer(str(folder), purge_step=step or None)
