"""Whole runs through the command line: what they leave, how they are stopped, and that they go on exactly."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml
from safetensors.torch import load_file

from streamlight.cli._main import run
from streamlight.cli._training import TrainingDisplay, describe
from streamlight.training.checkpoint import load_checkpoint
from streamlight.training.run import Moment
from tests.training import toy

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _toy() -> None:
    toy.register()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    toy.make_pictures(tmp_path / "photos")
    return tmp_path


def train(data: Path, output: str, *more: str, recipe: str = "r.yaml") -> int:
    """The command, in this process."""
    return run(["train", str(data / recipe), "-o", str(data / output), *_where(data), *more])


def start(data: Path, output: str, *more: str, **popen: Any) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "tests.training.toy", "train", str(data / "r.yaml"), "-o", str(data / output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *_where(data), *more], cwd=REPO, env=environment, stderr=subprocess.PIPE, text=True, **popen
    )


def _where(data: Path) -> list[str]:
    return ["--data", str(data), "--device", "cpu", "--workers", "1", "--threads", "1", "--pool", str(data / "pool")]


def curve(folder: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]


def equal_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


# -- what a run leaves ----------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_it_promises(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "held.txt").write_text("photos/03.png\nphotos/typo.png\n")
    toy.write_toy_recipe(data / "r.yaml", steps=10, log_every=4, sheet_every=5, data={"exclude": ["held.txt"]})
    assert train(data, "run") == 0
    folder = data / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "checkpoint.pt",
        "weights.safetensors",
        "recipe.yaml",
        "pictures.txt",
        "log.jsonl",
        "sheets",
        ".lock",
    }
    assert [line["step"] for line in curve(folder)] == [4, 8]
    assert set(curve(folder)[0]) == {"step", "loss", "square", "norm", "rate"}
    assert sorted(path.name for path in (folder / "sheets").iterdir()) == ["step_0000005.png", "step_0000010.png"]
    sheet = cv2.imread(str(folder / "sheets" / "step_0000010.png"))
    assert sheet.shape[1] == 3 * (24 + 4)  # three columns of 24 pixels and a gap: nothing is scaled
    assert (folder / "pictures.txt").read_text().split() == [f"photos/0{n}.png" for n in (0, 1, 2, 4)]
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["data"]["exclude"][0] == "photos/03.png"
    assert load_checkpoint(folder).step == 10
    text = said(capsys)
    assert "note: data.exclude: 1 of 2 entries match no picture, for example photos/typo.png" in text
    assert "step 10 of 10, loss 0." in text
    assert "weights.safetensors: after 10 of 10 steps" in text


def test_the_copy_of_the_recipe_trains_the_same(data: Path) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=4)
    assert train(data, "a") == 0
    assert train(data, "b", recipe="a/recipe.yaml") == 0
    assert curve(data / "a") == curve(data / "b")
    assert equal_weights(data / "a", data / "b")


def test_quiet_is_quiet(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=2)
    assert train(data, "run", "-q") == 0
    assert said(capsys) == ""


# -- going on -------------------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_exactly(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=12, log_every=3, schedule={"name": "constant", "warmup": 2})
    assert train(data, "whole") == 0
    assert train(data, "parts", "--steps", "5") == 0  # in the middle of a line of the log
    assert train(data, "parts", "--max-hours", "0", "--resume") == 0
    assert load_checkpoint(data / "parts").step == 5
    assert "the time is up; the checkpoint is saved, go on with --resume" in said(capsys)
    assert train(data, "parts", "--resume") == 0
    assert "note: steps: 5 in the run, 12 now" not in said(capsys)  # the run in between said 12 already
    assert curve(data / "parts") == curve(data / "whole")
    assert equal_weights(data / "parts", data / "whole")
    assert train(data, "parts", "--resume") == 0  # nothing left to do
    assert equal_weights(data / "parts", data / "whole")


@pytest.mark.parametrize("place", ["beside the recipe", "below --data"])
def test_a_run_starts_from_weights_and_goes_on_when_they_have_moved(data: Path, place: str) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=3)
    assert train(data, "first") == 0
    (data / "recipes").mkdir()
    folder = data / "recipes" if place == "beside the recipe" else data
    (data / "first" / "weights.safetensors").rename(folder / "begun.safetensors")
    rest = {"steps": 6, "start": "begun.safetensors", "optimizer": {"rate": 1e-9}, "ema": None}
    toy.write_toy_recipe(data / "recipes" / "r.yaml", **rest)
    assert train(data, "second", "--steps", "2", recipe="recipes/r.yaml") == 0
    begun, after = load_file(folder / "begun.safetensors"), load_file(data / "second" / "weights.safetensors")
    assert torch.allclose(begun["0.weight"], after["0.weight"], atol=1e-6)
    (folder / "begun.safetensors").rename(data / "first" / "begun.safetensors")
    toy.write_toy_recipe(data / "recipes" / "r.yaml", **{**rest, "start": "../first/begun.safetensors"})
    assert train(data, "second", "--resume", recipe="recipes/r.yaml") == 0
    assert load_checkpoint(data / "second").step == 6


def test_a_killed_run_goes_on_exactly(data: Path) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=400, checkpoint_minutes=1e-4, log_every=2)
    assert train(data, "whole") == 0
    process = start(data, "killed")
    log = data / "killed" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 12) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    begun = load_checkpoint(data / "killed").step
    assert 0 < begun < 400
    assert train(data, "killed", "--resume") == 0
    assert curve(data / "killed") == curve(data / "whole")
    assert equal_weights(data / "killed", data / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_checkpoint_and_weights(data: Path, number: signal.Signals) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=100_000)
    process = start(data, "run")
    log = data / "run" / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.01)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the checkpoint is saved, go on with --resume" in text
    assert "Traceback" not in text
    steps = load_checkpoint(data / "run").step
    assert len(curve(data / "run")) == steps >= 3
    assert load_file(data / "run" / "weights.safetensors")


# -- what is refused ------------------------------------------------------------------------------------------------


def test_other_recipes_pictures_and_processes_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=3)
    assert train(data, "run") == 0
    before = (data / "run" / "checkpoint.pt").read_bytes()
    assert train(data, "run") == 2
    assert "holds a run already; continue it with --resume" in said(capsys)
    toy.write_toy_recipe(data / "r.yaml", steps=6, optimizer={"rate": 0.02}, log_every=2)
    assert train(data, "run", "--resume") == 2
    text = said(capsys)
    assert "was trained with another recipe: optimizer.rate: 0.01 in the run, 0.02 now. Resume with" in text
    assert "steps" not in text.split("Resume")[0].split("recipe:")[1]  # may change
    toy.write_toy_recipe(data / "r.yaml", steps=6)
    (data / "photos" / "04.png").unlink()
    assert train(data, "run", "--resume") == 2
    assert "was trained with other pictures than the recipe names" in said(capsys)
    assert (data / "run" / "checkpoint.pt").read_bytes() == before
    toy.make_pictures(data / "photos")
    from streamlight.training.lock import sole_user

    with sole_user(data / "run", wait=False):
        assert train(data, "run", "--resume") == 2
    assert "another process is training there" in said(capsys)
    assert train(data, "run", "--resume") == 0


@pytest.mark.parametrize(
    ("changes", "options", "code", "message"),
    [
        ({"stpes": 3}, (), 2, "unknown key 'stpes'; did you mean 'steps'?"),
        ({"start": "gone.safetensors"}, (), 2, "start: the weights file 'gone.safetensors' does not exist; looked for"),
        ({"data": {"photos": ["nowhere"]}}, (), 1, "nowhere: does not exist"),
        ({}, ("--device", "tpu"), 1, "unknown device 'tpu'"),
        ({"options": {"poison": 2}}, (), 1, "step 2: the loss is not finite (loss nan"),
        ({}, ("--resume",), 0, "note: there was no checkpoint to resume from: began anew"),
    ],
)
def test_mistakes_end_with_one_line(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    toy.write_toy_recipe(data / "r.yaml", **{"steps": 4, **changes})
    assert train(data, "run", *options) == code
    text = said(capsys)
    assert message in text
    assert code == 0 or text.splitlines()[-1].startswith("streamlight: ")


def test_the_last_checkpoint_before_a_divergence_is_intact(data: Path) -> None:
    toy.write_toy_recipe(data / "r.yaml", options={"poison": 7}, checkpoint_minutes=1e-6)
    assert train(data, "run") == 1
    assert 0 < load_checkpoint(data / "run").step <= 7


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_a_full_disk_leaves_the_last_checkpoint(data: Path) -> None:
    toy.write_toy_recipe(data / "r.yaml", steps=3, options={"ballast": 500_000})
    assert train(data, "run") == 0
    folder = data / "run"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".pt", ".safetensors")}
    assert len(before["checkpoint.pt"]) > 2_000_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    process = start(data, "run", "--resume", "--steps", "5", preexec_fn=limit)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "checkpoint.pt has become too large" in text
    assert "Traceback" not in text
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before
    assert not list(folder.glob(".*.part"))
    assert train(data, "run", "--resume", "--steps", "5") == 0


# -- what is shown --------------------------------------------------------------------------------------------------


def test_a_line_now_and_then_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingDisplay(interval=1000.0) as display:
        for done in (1, 2, 3):
            display.update(Moment("pool", done, 3, {}))
        for done in (5, 6, 7, 8):
            display.update(Moment("train", done, 8, {"loss": 0.123456, "rate": 1e-3, "step_seconds": 1.0}))
    lines = said(capsys).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("pair 3 of 3")
    assert lines[1].startswith("step 8 of 8, loss 0.1235")
    assert "rate" not in lines[1]
    with TrainingDisplay(interval=0.0) as display:
        display.update(Moment("train", 7, 8, {}))
    assert said(capsys).splitlines() == ["step 7 of 8"]
    assert describe(Moment("train", 1, 2, {"loss": float("nan")})) == "step 1 of 2, loss nan"
