"""Steps of a training: what they change, what they refuse, and that they can be repeated."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamlight.errors import ConfigError, MediaError, ModelError
from streamlight.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from streamlight.training.data.batches import Named
from streamlight.training.log import Log, Window
from streamlight.training.loop import Trainer
from streamlight.training.recipe import Recipe, check
from streamlight.training.sheet import write_sheet
from tests.training.toy import ToyOptions, ToyTask, recipe_content

CPU = torch.device("cpu")


def make(*, options: dict[str, Any] | None = None, **changes: Any) -> Trainer:
    recipe = check(Recipe, recipe_content(**changes), origin="test")
    torch.manual_seed(0)
    return Trainer(ToyTask(ToyOptions(**(options or {}))), recipe, device=CPU)


def batch(step: int = 0) -> Named:
    numbers = torch.Generator().manual_seed(step)
    target = torch.rand(2, 3, 1, 1, generator=numbers).expand(-1, -1, 8, 8).contiguous()
    return Named({"low": target * 0.1, "target": target}, ["a.png (pair 3)", "b.png (pair 9)"])


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.task.module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_loss_falls(precision: str) -> None:
    trainer = make(precision=precision, steps=60, optimizer={"rate": 0.03})
    losses = [trainer.advance(batch(step))["loss"] for step in range(60)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert trainer.step == 60


def test_the_rate_follows_the_schedule() -> None:
    trainer = make(steps=10, schedule={"name": "steps", "warmup": 1, "milestones": [4], "factor": 0.1})
    rates = [trainer.advance(batch())["rate"] for _ in range(6)]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.001, 0.001])


def test_gradients_are_clipped_together() -> None:
    free, tight = make(clip=None), make(clip=1e-3)
    before = free.advance(batch())["norm"]
    assert tight.advance(batch())["norm"] == pytest.approx(before)

    def norm(trainer: Trainer) -> float:
        return torch.stack([p.grad.square().sum() for p in trainer.task.module.parameters()]).sum().sqrt().item()

    assert norm(free) == pytest.approx(before)
    assert norm(tight) == pytest.approx(1e-3, rel=1e-3)


def test_steps_do_not_depend_on_what_else_draws_random_numbers() -> None:
    one, other = make(), make()
    for step in range(3):
        torch.manual_seed(step + 100)  # the toy has dropout
        one.advance(batch(step))
        torch.manual_seed(step + 200)
        other.advance(batch(step))
    assert same(weights(one), weights(other))


def test_frozen_parameters_stay_and_alone_are_refused() -> None:
    recipe = check(Recipe, recipe_content(), origin="test")
    task = ToyTask(ToyOptions())
    task.module[0].requires_grad_(False)
    trainer = Trainer(task, recipe, device=CPU)
    before = weights(trainer)
    trainer.advance(batch())
    after = weights(trainer)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["4.weight"], after["4.weight"])
    task.module.requires_grad_(False)
    with pytest.raises(ConfigError, match="all parameters are frozen"):
        Trainer(task, recipe, device=CPU)


# -- what is not finite ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_step_and_pictures() -> None:
    trainer = make(options={"poison": 2})
    for step in range(2):
        trainer.advance(batch(step))
    before = weights(trainer)
    with pytest.raises(
        ModelError, match=r"step 2: the loss is not finite \(loss nan, square 0\.\d+\).*a\.png \(pair 3\)"
    ):
        trainer.advance(batch(2))
    parameters = dict(trainer.task.module.named_parameters())
    assert all(torch.equal(before[name], parameters[name]) for name in parameters)


def test_a_gradient_that_is_no_number_names_step_and_pictures() -> None:
    trainer = make()
    # The square root has no slope at 0: a finite loss with an infinite gradient.
    trainer.task.module[0].weight.data.zero_()
    trainer.task.module[0].bias.data.zero_()
    trainer.task.losses = lambda b, *, step, generator: {  # type: ignore[method-assign]
        "loss": trainer.task.module[0](b["low"]).abs().sqrt().mean()
    }
    before = weights(trainer)
    with pytest.raises(ModelError, match=r"step 0: the gradient is not finite .*b\.png \(pair 9\)"):
        trainer.advance(batch())
    assert same(before, weights(trainer))


def test_overflow_of_half_precision_is_skipped_until_nothing_helps() -> None:
    trainer = make(precision="float16")
    losses = trainer.task.losses

    def steep(b: Any, *, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        loss = losses(b, step=step, generator=generator)["loss"]
        return {"loss": loss + (loss - loss.detach()) * 1e38}

    trainer.task.losses = steep  # type: ignore[method-assign]
    before = dict(copy.deepcopy(list(trainer.task.module.named_parameters())))
    while trainer.step < 30:  # the scale begins at 2^16 and is halved every time
        assert "norm" not in trainer.advance(batch(trainer.step))
    with pytest.raises(ModelError, match="step 30: gradients overflow float16 at every scale"):
        trainer.advance(batch(30))
    assert all(torch.equal(before[name], p) for name, p in trainer.task.module.named_parameters())


# -- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_loaded_checkpoint_goes_on_as_if_nothing_had_happened(tmp_path: Path, precision: str) -> None:
    straight = make(precision=precision)
    first = [straight.advance(batch(step)) for step in range(5)]
    save_checkpoint(straight.state(data="key", window={"loss": 1.5}, seconds=2.0), tmp_path)
    rest = [straight.advance(batch(step)) for step in range(5, 9)]
    resumed = make(precision=precision)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.data, checkpoint.window, checkpoint.seconds) == (5, "key", {"loss": 1.5}, 2.0)
    resumed.load(checkpoint)
    assert [resumed.advance(batch(step)) for step in range(5, 9)] == rest
    assert first != rest
    assert same(weights(straight), weights(resumed))
    assert same(straight.export()[0], resumed.export()[0])


def test_the_average_is_what_is_exported_and_the_weights_go_on() -> None:
    trainer = make(ema=0.5)
    name = "4.weight"
    expected = weights(trainer)[name]
    for step in range(1, 5):
        trainer.advance(batch(step))
        keep = min(0.5, (1 + step) / (10 + step))  # short memory at first
        expected = keep * expected + (1 - keep) * weights(trainer)[name]
    before = weights(trainer)
    exported = trainer.export()[0]
    assert torch.allclose(exported[name], expected, atol=1e-7)
    assert not torch.equal(exported[name], before[name])
    assert torch.equal(exported["1.running_mean"], before["1.running_mean"])
    assert same(before, weights(trainer))
    last = make(ema=None)
    last.advance(batch())
    assert same(last.export()[0], weights(last))


def test_pictures_are_of_the_average_and_leave_no_trace() -> None:
    trainer = make(ema=0.9)
    for step in range(3):
        trainer.advance(batch(step))
    trainer.task.module[1].eval()  # frozen statistics, as some tasks have them
    before = weights(trainer)
    one = trainer.pictures(batch().batch)
    assert [column.shape for column in one] == [(2, 3, 8, 8)] * 3
    assert torch.equal(one[1], trainer.pictures(batch().batch)[1])
    assert same(before, weights(trainer))
    assert trainer.task.module.training
    assert not trainer.task.module[1].training


# -- checkpoints ----------------------------------------------------------------------------------------------------


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step=step, recipe={}, data="", module={"w": torch.full((1000,), float(step))}, optimizer={})


def test_the_one_before_is_kept_and_steps_in(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    for step in (1, 2, 3):
        save_checkpoint(checkpoint(step), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "checkpoint_previous.pt"]
    assert load_checkpoint(tmp_path).step == 3
    data = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(data[: len(data) // 2])
    assert load_checkpoint(tmp_path).step == 2
    (tmp_path / "checkpoint.pt").unlink()  # killed between the two renames
    assert load_checkpoint(tmp_path).step == 2
    (tmp_path / "checkpoint_previous.pt").write_bytes(b"junk")
    with pytest.raises(MediaError, match="the checkpoint is damaged"):
        load_checkpoint(tmp_path)


# -- the log --------------------------------------------------------------------------------------------------------


def test_what_was_logged_after_the_checkpoint_is_taken_away(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for step in (10, 20, 30):
        log.write(step, {"loss": step / 100})
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 40, "lo')  # killed while writing
    Log(tmp_path, step=20).close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 10, "loss": 0.1}, {"step": 20, "loss": 0.2}]


def test_a_line_is_the_mean_of_its_steps_also_over_a_break() -> None:
    window = Window(3)
    window.add({"loss": 1.0, "norm": 4.0, "rate": 0.1}, seconds=1.0)
    window.add({"loss": 2.0, "rate": 0.2}, seconds=2.0)  # an overflow has no norm
    again = Window(3)
    again.load(window.state(), seconds=window.seconds)
    assert not again.complete
    again.add({"loss": 6.0, "norm": 2.0, "rate": 0.3}, seconds=3.0)
    assert again.complete
    assert again.take() == {"loss": 3.0, "norm": 3.0, "step_seconds": 2.0, "rate": 0.3}
    assert again.seconds == 6.0
    assert not again.complete


def test_tensorboard_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard; run: pip install 'streamlight\[train\]'"):
        Log(tmp_path, tensorboard=True)


def test_tensorboard_gets_the_same_values(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path, tensorboard=True)
    log.write(10, {"loss": 0.5})
    log.write(20, {"loss": 0.25})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]


# -- sheets ---------------------------------------------------------------------------------------------------------


def test_sheets_show_every_pixel_as_it_is(tmp_path: Path) -> None:
    import cv2

    numbers = torch.Generator().manual_seed(0)
    columns = [torch.rand(2, 3, 30, 50, generator=numbers), torch.rand(2, 3, 60, 100, generator=numbers) * 2 - 0.5]
    write_sheet(tmp_path / "s" / "x.png", columns, captions=("dark", "double"), names=("one", "two", "three"))
    sheet = cv2.imread(str(tmp_path / "s" / "x.png"))[:, :, ::-1]
    for column in columns:
        for picture in (column.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy():
            height, width = picture.shape[:2]
            views = np.lib.stride_tricks.sliding_window_view(sheet, (height, width, 3))[:, :, 0]
            corners = np.argwhere((sheet[: views.shape[0], : views.shape[1]] == picture[0, 0]).all(-1))
            assert any(np.array_equal(views[y, x], picture) for y, x in corners)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["x.png"]
    with pytest.raises(ValueError, match="one caption per column"):
        write_sheet(tmp_path / "y.png", columns, captions=("one",), names=("a", "b"))
