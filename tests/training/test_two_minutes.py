"""Every task trained through the command, on a handful of generated pictures: the loss falls, and a killed run goes on.

The networks are tiny and so are the pictures: all of it takes a minute or two on two cores.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from streamlight import load
from streamlight.training.tasks import TASKS
from tests.training.tasks import FLOW, LLDIFFUSION, LLFLOW, TONENET, VQGAN

PICTURES = 4
LONGEST = 240.0


@dataclass(frozen=True)
class Case:
    """How a task is run here.

    Attributes:
        options: Its options.
        steps: Length of the run.
        fall: By how much the mean of the last fifth of the losses must be below that of the first.
        rate: Learning rate.
        crop: Of a step's pictures.
        batch: Pictures in a step.
        watch: The loss that must fall.
        start: Task whose weights this one starts from.
        loads: Whether its weights file is a model by itself.
    """

    options: Mapping[str, Any]
    steps: int
    fall: float
    rate: float = 2e-3
    crop: tuple[int, int] | None = (64, 64)
    batch: int = 2
    watch: str = "loss"
    start: str | None = None
    loads: bool = True


CASES: dict[str, Case] = {
    "llflow": Case({"network": LLFLOW, "quant": 255, "weight_l1": 20.0}, 40, 2.0, rate=4e-3),
    "glare_vqgan": Case(
        {"network": VQGAN, "codes": 32, "codebook_from_data": True, "discriminator_width": 8}, 30, 0.1, loads=False
    ),
    "glare_flow": Case({"network": FLOW, "weight_l1": 0.5}, 30, 0.5, start="glare_vqgan"),
    "glare_fusion": Case({"teach_saturated": True}, 40, 0.1, rate=4e-3, start="glare_flow"),
    "lldiffusion": Case({"network": LLDIFFUSION, "patch": None, "patches": 1}, 30, 0.1, watch="noise"),
    "tonenet": Case(
        {"network": TONENET, "patch": [16, 16], "exposure_jitter": 0.0, "weight_denoise": 0.2},
        120,
        0.03,
        rate=4e-3,
        crop=None,
        batch=4,
    ),
}
"""By task. A task that is missing here fails its test."""


@dataclass
class Workshop:
    """A folder with pictures, and the runs made in it so far.

    Attributes:
        folder: Everything is in it.
        done: Finished runs by task.
    """

    folder: Path
    done: dict[str, Path] = field(default_factory=dict)

    def recipe(self, task: str, *, often: bool = False) -> Path:
        """The recipe of a task, for the pictures at hand; a checkpoint after every step, if it shall be ``often``."""
        case = CASES[task]
        content = {
            "task": task,
            "options": dict(case.options),
            "start": None if case.start is None else str(self.run(case.start) / "weights.safetensors"),
            "data": {
                "photos": ["photos"],
                "size": [72, 96],
                "crop": None if case.crop is None else list(case.crop),
                "pool": 8,
                "degradation": {"identity": 0.0, "stills": [["none", 1.0]], "exposure": [0.02, 0.1]},
            },
            "seed": 3,
            "batch": case.batch,
            "steps": case.steps,
            "optimizer": {"name": "adam", "rate": case.rate},
            "schedule": {"name": "constant", "warmup": 0},
            "ema": 0.9,
            "checkpoint_minutes": 0.0001 if often else 5.0,
            "sheet_every": 0,
            "log_every": 1,
        }
        path = self.folder / f"{task}{'_often' if often else ''}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def command(self, task: str, output: Path, *, often: bool = False) -> list[str]:
        """``streamlight train`` for a task."""
        recipe = self.recipe(task, often=often)
        command = [sys.executable, "-m", "streamlight", "train", str(recipe), "-o", str(output)]
        return [*command, "--data", str(self.folder), "--device", "cpu", "--threads", "1", "--workers", "0"]

    def run(self, task: str) -> Path:
        """The folder of the task's finished run; trained on first use, in one go."""
        if task not in self.done:
            output = self.folder / f"run_{task}"
            finish(self.command(task, output))
            self.done[task] = output
        return self.done[task]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("training")
    (folder / "photos").mkdir()
    numbers = np.random.default_rng(0)
    for index in range(PICTURES):
        coarse = numbers.uniform(30, 230, (5, 6, 3)).astype(np.float32)
        picture = cv2.resize(coarse, (192, 144), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(folder / "photos" / f"{index}.png"), picture.clip(0, 255).astype(np.uint8))
    return Workshop(folder)


def finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=environment())
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def curve(run: Path, name: str = "loss") -> list[float]:
    """A logged number, step by step."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line[name] for line in lines]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_loss_falls(workshop: Workshop, task: str) -> None:
    case = CASES[task]
    losses = curve(workshop.run(task), case.watch)
    assert len(losses) == case.steps
    share = case.steps // 5
    first, last = np.mean(losses[:share]), np.mean(losses[-share:])
    assert last < first - case.fall, losses


@pytest.mark.parametrize("task", sorted(TASKS))
def test_weights_are_a_model(workshop: Workshop, task: str) -> None:
    run = workshop.run(task)
    assert list((run / "sheets").glob("*.png"))
    assert (run / "checkpoint.pt").stat().st_size > 0
    if CASES[task].loads:
        assert load(run / "weights.safetensors").card.parameters > 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("task", ["llflow"])
def test_killed_run_goes_on_as_if_nothing_had_happened(workshop: Workshop, task: str, tmp_path: Path) -> None:
    whole, output = workshop.run(task), tmp_path / "killed"
    command = workshop.command(task, output, often=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        logged, deadline = output / "log.jsonl", time.monotonic() + LONGEST
        while not (logged.exists() and len(logged.read_text().splitlines()) >= CASES[task].steps // 3):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert (output / "checkpoint.pt").exists()
    assert len(logged.read_text().splitlines()) < CASES[task].steps
    finish([*command, "--resume"])
    assert curve(output) == curve(whole)
    weights, wanted = (load_file(run / "weights.safetensors") for run in (output, whole))
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(weights[name], tensor), name
