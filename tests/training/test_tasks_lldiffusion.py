"""The task ``lldiffusion``: published losses, the two phases, and what leaves the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from streamlight import load
from streamlight.errors import ConfigError, ModelError
from streamlight.models.lldiffusion import LLDiffusion, training_losses
from streamlight.models.lldiffusion.diffusion import alpha_bars, diffuse
from streamlight.models.lldiffusion.losses import CLEAN_LIMIT, antithetic_times, clean_loss
from streamlight.training.tasks import lldiffusion
from streamlight.training.tasks.lldiffusion import LLDiffusionOptions, LLDiffusionTask
from tests.training.tasks import LLDIFFUSION, descend, exported, gradients, numbers, pairs, psnr

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "lldiffusion"
WEIGHTS = GOLDEN / "lol_tiny_weights.safetensors"
FACTS: dict[str, Any] = json.loads((GOLDEN / "lol_tiny.json").read_text(encoding="utf-8"))["training_forward"]


def make(start: Path | None = None, **options: Any) -> LLDiffusionTask:
    if start is None:
        options.setdefault("network", LLDIFFUSION)
    torch.manual_seed(0)
    return LLDiffusionTask.build(
        LLDiffusionOptions(**{"patch": None, "patches": 1, **options}), start=start, device="cpu"
    )


@pytest.fixture
def golden(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The golden batch; the losses are taken at the golden time and noise, whatever the task draws."""
    stored = load_file(GOLDEN / "lol_tiny_io.safetensors")
    fixed = {"t": torch.tensor([FACTS["t"]]), "noise": stored["train_e_half"].float()}
    monkeypatch.setattr(
        lldiffusion, "training_losses", lambda *arguments, **given: training_losses(*arguments, **{**given, **fixed})
    )
    return {"low": stored["low_u8"][None].float() / 255, "target": stored["high_u8"][None].float() / 255}


def test_joint_phase_is_the_published_one(golden: dict[str, Tensor]) -> None:
    task = make(WEIGHTS, image_weight=FACTS["loss_weights"]["image_loss"])
    task.module.train()
    found = {name: float(v.detach()) for name, v in task.losses(golden, step=0, generator=numbers()).items()}
    assert found == {
        "loss": pytest.approx(FACTS["weighted_total"], rel=1e-4),
        "noise": pytest.approx(FACTS["losses"]["noise_loss"], rel=1e-4),
        "image": pytest.approx(FACTS["losses"]["image_loss"], rel=1e-4),
    }


def test_gradients_of_the_joint_phase_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    task = make(WEIGHTS, image_weight=FACTS["loss_weights"]["image_loss"])
    found = gradients(task, golden)
    assert set(found) == {name for name, _ in task.module.named_parameters()}
    for part, wanted in FACTS["grad_l2"].items():
        squares = [float(g.double().square().sum()) for name, g in found.items() if name.startswith(f"{part}.")]
        assert sum(squares) ** 0.5 == pytest.approx(wanted, rel=1e-3), part


def test_frozen_phase_leaves_the_encoder_alone(golden: dict[str, Tensor]) -> None:
    task = make(WEIGHTS, phase="frozen")
    before = {name: tensor.clone() for name, tensor in task.module.encoder.state_dict().items()}
    found = gradients(task, golden)
    assert found
    assert all(name.startswith("diff_unet.") for name in found)
    assert task.module.deg_unet is None
    # In evaluation mode the encoder's norms have not stepped, so this is not the joint phase's number.
    loss = task.losses(golden, step=0, generator=numbers())
    assert set(loss) == {"loss", "noise"}
    assert float(loss["loss"]) == pytest.approx(FACTS["losses"]["noise_loss"], rel=0.05)
    descend(task, golden, steps=3)
    for name, tensor in task.module.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_clean_loss_is_that_of_the_picture_that_the_noise_amounts_to() -> None:
    x, noise, t = torch.rand(3, 3, 8, 8), torch.randn(3, 3, 8, 8), torch.tensor([0, 300, 600])
    predicted = noise + 0.1 * torch.randn(noise.shape)
    bar = torch.tensor(alpha_bars())[t + 1].reshape(-1, 1, 1, 1)
    picture = (diffuse(x, t, noise) - (1 - bar).sqrt() * predicted) / bar.sqrt()
    assert float((1 - bar[2]) / bar[2]) < CLEAN_LIMIT
    assert float(clean_loss(predicted, noise, t)) == pytest.approx(float((picture - x).square().mean()), rel=1e-3)


def test_clean_loss_is_limited() -> None:
    noise = torch.randn(2, 3, 8, 8)
    found = float(clean_loss(noise + 0.1, noise, torch.tensor([999, 999])))
    assert found == pytest.approx(CLEAN_LIMIT * 0.01, rel=1e-4)


def test_clean_weight_adds_to_the_published_losses() -> None:
    task, batch = make(clean_weight=0.5), pairs()
    found = {name: float(v.detach()) for name, v in task.losses(batch, step=0, generator=numbers()).items()}
    assert set(found) == {"loss", "noise", "image", "clean"}
    assert found["loss"] == pytest.approx(found["noise"] + 0.1 * found["image"] + 0.5 * found["clean"], rel=1e-5)
    assert found["clean"] > 0


def test_joint_phase_without_dgnet_trains_the_encoder(tmp_path: Path) -> None:
    task = make(network={**LLDIFFUSION, "dgnet": None}, image_weight=0.0)
    found = gradients(task, pairs())
    assert {name.partition(".")[0] for name in found} == {"encoder", "diff_unet"}
    assert set(task.losses(pairs(), step=0, generator=numbers())) == {"loss", "noise"}
    assert isinstance(load(exported(task, tmp_path / "w.safetensors")), LLDiffusion)


def test_groups_go_along(tmp_path: Path) -> None:
    task = make(network={**LLDIFFUSION, "norm_groups": 4}, sheet_steps=2, keywords={"steps": 2})
    path = exported(task, tmp_path / "w.safetensors")
    model = load(path)
    assert isinstance(model, LLDiffusion)
    assert (model.config.norm_groups, model.sampling.steps) == (4, 2)
    assert make(path).module.config == task.module.config
    assert make(path, phase="frozen").module.config.norm_groups == 4


def test_patches_times_and_noise_come_from_the_generator() -> None:
    task, batch = make(patch=(64, 64), patches=3), pairs(2, 96, 80)
    seen: list[dict[str, Any]] = []
    task.module.encoder.register_forward_pre_hook(lambda _, arguments: seen.append({"y": arguments[0]}))
    task.module.train()
    state = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
    losses = []
    for seed in (1, 1, 2):
        task.module.load_state_dict(state)
        losses.append(float(task.losses(batch, step=0, generator=numbers(seed))["loss"]))
    assert losses[0] == losses[1] != losses[2]
    y = seen[0]["y"]
    assert y.shape == (6, 3, 64, 64)
    for index, patch in enumerate(y):
        places = batch["low"][index // 3].unfold(1, 64, 1).unfold(2, 64, 1).permute(1, 2, 0, 3, 4)
        assert (2 * places - 1 - patch).abs().amax((2, 3, 4)).min() < 1e-6


def test_times_are_antithetic() -> None:
    times = antithetic_times(8, generator=numbers())
    assert set(times.tolist()) >= {999 - int(t) for t in times[:3]}


def test_loss_falls() -> None:
    losses = descend(make(), pairs(), steps=30, rate=2e-3)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize("keep", [True, False])
def test_exported_weights_load(tmp_path: Path, keep: bool) -> None:
    task = make(keep_dgnet=keep, half=True, sheet_steps=2, licence="MIT", keywords={"steps": 2})
    descend(task, pairs(), steps=2)
    path = exported(task, tmp_path / "w.safetensors")
    model = load(path)
    assert isinstance(model, LLDiffusion)
    assert (model.deg_unet is not None) == keep
    assert (model.sampling.steps, model.card.licence) == (2, "MIT")
    batch = pairs(1, 50, 70)
    wanted = task.pictures(batch, generator=numbers(4))[1]
    assert task.module.training
    condition = model.condition(batch["low"])
    latent = torch.randn(condition.features["y"].shape, generator=numbers(4))
    assert psnr(model.decode(latent, condition), wanted) > 25  # two steps magnify rounding
    kinds = {name: tensor.dtype for name, tensor in load_file(path).items()}
    assert kinds["diff_unet.conv_in.weight"] == torch.float16
    assert kinds["encoder.encoder.layer1.0.weight_u"] == torch.float32


def test_frozen_phase_starts_from_either_export(tmp_path: Path) -> None:
    for keep in (True, False):
        path = exported(make(keep_dgnet=keep), tmp_path / f"{keep}.safetensors")
        task = make(path, phase="frozen")
        assert task.module.config.dgnet is None
        assert exported(task, tmp_path / "again.safetensors").exists()
    with pytest.raises(ConfigError, match="the joint phase trains DGNET too"):
        make(tmp_path / "False.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "frozen"}, "name its weights with start"),
        ({"network": None}, "options.network: missing"),
        ({"patch": (48, 64)}, "options.patch: must be multiples of 32, at least 64"),
        ({"network": {**LLDIFFUSION, "dgnet": None}}, "options.network.dgnet: missing"),
        ({"network": {**LLDIFFUSION, "features": []}}, "1 to 6 are possible"),
        ({"network": {**LLDIFFUSION, "features": [20]}}, "must be multiples of 32, got 20"),
        ({"network": {**LLDIFFUSION, "dddm": {**LLDIFFUSION["dddm"], "ch": 16}}}, "ch must be a multiple of 32"),
        ({"keywords": {"step": 3}}, "no setting 'step'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_starts_and_sizes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        make(WEIGHTS, network=LLDIFFUSION)
    with pytest.raises(ModelError, match="holds no lldiffusion weights"):
        make(GOLDEN.parent / "llflow" / "weights.safetensors")
    with pytest.raises(ConfigError, match="pictures to train on: must be multiples of 32"):
        make().losses(pairs(1, 72, 64), step=0, generator=numbers())
