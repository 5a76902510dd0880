"""A network of a few numbers to try the training loop on, and the command line that knows it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from streamlight.training import tasks
from streamlight.training.recipe import Section
from streamlight.training.task import Batch


class ToyOptions(Section):
    width: int = 4
    ballast: int = 1
    poison: int | None = None  # a step at which the loss is NaN


class ToyTask:
    Options = ToyOptions
    captions = ("dark", "result", "target")

    def __init__(self, options: ToyOptions) -> None:
        self._options = options
        self.module = nn.Sequential(
            nn.Conv2d(3, options.width, 3, padding=1),
            nn.BatchNorm2d(options.width),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.1),
            nn.Conv2d(options.width, 3, 1),
        )
        self.module.register_buffer("ballast", torch.arange(float(options.ballast)))

    @classmethod
    def build(cls, options: ToyOptions, *, start: Path | None, device: Any) -> ToyTask:
        task = cls(options)
        if start is not None:
            task.module.load_state_dict(load_file(start))
        task.module.to(device)
        return task

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        noise = 0.01 * torch.randn(batch["low"].shape, generator=generator)
        error = self.module(batch["low"].sqrt() + noise) - batch["target"]
        loss = error.abs().mean()
        return {"loss": loss * float("nan") if step == self._options.poison else loss, "square": error.square().mean()}

    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        return [batch["low"], self.module(batch["low"].sqrt()), batch["target"]]

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        return state, {"architecture": "toy"}


def register() -> None:
    tasks.TASKS["toy"] = f"{__name__ if __name__ != '__main__' else 'tests.training.toy'}:ToyTask"


def make_pictures(folder: Path, count: int = 5, *, size: tuple[int, int] = (60, 80)) -> Path:
    """Photographs ``00.png`` and so on, each of another colour."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0)
    for index in range(count):
        coarse = numbers.uniform(20, 235, (4, 5, 3)).astype(np.float32)
        picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255)
        assert cv2.imwrite(str(folder / f"{index:02}.png"), picture.astype(np.uint8))
    return folder


def recipe_content(**changes: Any) -> dict[str, Any]:
    """A recipe for the toy on ``photos``; changes of ``data`` are put into that section."""
    data = {"photos": ["photos"], "size": [32, 40], "pool": 7, "crop": [24, 24], **changes.pop("data", {})}
    content = {
        "task": "toy",
        "data": data,
        "seed": 5,
        "batch": 2,
        "steps": 12,
        "optimizer": {"rate": "1e-2"},
        "schedule": {"name": "cosine", "warmup": 2},
        "ema": 0.9,
        "checkpoint_minutes": 60,
        "sheet_every": 0,
        "log_every": 1,
    }
    return {key: value for key, value in {**content, **changes}.items() if value is not ...}


def write_toy_recipe(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(recipe_content(**changes)))
    return path


if __name__ == "__main__":
    from streamlight.cli import main

    register()
    main(sys.argv[1:])
