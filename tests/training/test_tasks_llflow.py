"""The task ``llflow``: published losses, what is trained, and what leaves the run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from skimage.metrics import structural_similarity
from torch import Tensor

from streamlight import load
from streamlight.errors import ConfigError, ModelError
from streamlight.models import check
from streamlight.models.llflow import LLFlow
from streamlight.models.llflow.network import latent_mean
from streamlight.models.llflow.preprocess import (
    centred_padding,
    equalization_table,
    network_input,
    pad_symmetric,
    to_codes,
)
from streamlight.training.tasks.llflow import LLFlowOptions, LLFlowTask
from tests.training.tasks import LLFLOW, descend, exported, gradients, numbers, pairs, psnr

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "llflow"
INFO: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
WEIGHTS = GOLDEN / "weights.safetensors"


def make(start: Path | None = None, **options: Any) -> LLFlowTask:
    if start is None:
        options.setdefault("network", LLFLOW)
    torch.manual_seed(0)
    return LLFlowTask.build(LLFlowOptions(**options), start=start, device="cpu")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "tensors.safetensors")


@pytest.fixture(scope="module")
def golden_batch(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    padding = centred_padding(30, 43, 16, always=True)
    low = pad_symmetric(golden["raw_low_uint8"].permute(0, 3, 1, 2), padding)
    return {"low": low.float() / 255.0, "target": golden["gt"]}


@pytest.mark.parametrize(("ratio", "name"), [(0.0, "nll_encoder_mean"), (1.0, "nll_gt_mean")])
def test_loss_is_the_published_likelihood(
    golden: dict[str, Tensor], golden_batch: dict[str, Tensor], ratio: float, name: str
) -> None:
    task = make(WEIGHTS, train_gt_ratio=ratio)
    task.module.train()
    found = task.losses(golden_batch, step=0, generator=numbers())
    assert set(found) == {"loss", "nll"}
    wanted = float(golden[f"forward.{name}"].mean())
    assert float(found["loss"].detach()) == pytest.approx(wanted, abs=1e-4)


def test_gradients_are_the_published_ones(golden_batch: dict[str, Tensor]) -> None:
    found = gradients(make(WEIGHTS, train_gt_ratio=0.0), golden_batch)
    rule = INFO["grad_l2"]
    wanted = {name: norm for name, norm in rule["values"].items() if norm is not None}
    assert set(found) == set(wanted)
    for name, norm in wanted.items():
        assert float(found[name].norm()) == pytest.approx(norm, rel=rule["rel_tolerance"]), name


def test_share_of_batches_with_the_mean_of_the_target() -> None:
    task, batch = make(train_gt_ratio=0.5), pairs()
    task.module.train()
    losses = {round(float(task.losses(batch, step=0, generator=numbers(seed))["nll"]), 4) for seed in range(12)}
    assert len(losses) == 2


def test_gradients_reach_everything() -> None:
    found = gradients(make(weight_l1=5.0, quant=255, crop=(32, 48)), pairs())
    assert set(found) == {name for name, _ in make().module.named_parameters()}


def test_dequantisation() -> None:
    batch = pairs()
    task = make(quant=32, train_gt_ratio=0.0)
    task.module.train()
    task.losses(batch, step=0, generator=numbers())  # norms are initialised
    found = task.losses(batch, step=0, generator=numbers(3))["nll"]
    draw = numbers(3)
    torch.rand((), generator=draw)
    noise = torch.rand(batch["target"].shape, generator=draw) - 0.5
    noisy = batch["target"] + noise / 32
    plain = task.module(noisy, network_input(batch["low"])).mean()
    assert float(found) == pytest.approx(float(plain) + math.log2(32), abs=1e-4)


def test_noise_stays_out_of_the_color_map() -> None:
    """Noise makes near-black pixels negative, and their colour map would be thousands."""
    task, batch = make(quant=255, train_gt_ratio=1.0), pairs()
    batch["target"][:, :, :32] = 0.0
    descend(task, batch, steps=3)
    assert all(float(task.losses(batch, step=0, generator=numbers(s))["nll"].detach()) < 100 for s in range(5))


def test_picture_term_is_the_error_of_the_decoded_mean() -> None:
    task, batch = make(weight_l1=7.0, weight_ssim=3.0, train_gt_ratio=0.0), pairs()
    descend(task, batch, steps=2)
    found = task.losses(batch, step=0, generator=numbers())
    encoding = task.module.RRDB(network_input(batch["low"]))
    picture, _ = task.module.decode(latent_mean(encoding.color_map), encoding)
    assert float(found["l1"].detach()) == pytest.approx(float((picture - batch["target"]).abs().mean()), rel=1e-4)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    sides = [image.detach().clamp(-1, 2).permute(0, 2, 3, 1).numpy() for image in (picture, batch["target"])]
    likeness = [structural_similarity(a, b, channel_axis=2, **options) for a, b in zip(*sides, strict=True)]
    assert float(found["ssim"].detach()) == pytest.approx(sum(likeness) / 2, abs=0.02)  # borders differ
    total = found["nll"] + 7.0 * found["l1"] + 3.0 * (1.0 - found["ssim"])
    assert float(found["loss"]) == pytest.approx(float(total), rel=1e-5)


def test_crops_see_the_histogram_of_the_whole_picture() -> None:
    batch = pairs(2, 64, 96)
    task = make(crop=(32, 32), train_gt_ratio=0.0)
    task.module.train()
    seen: list[Tensor] = []
    task.module.RRDB.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    task.losses(batch, step=0, generator=numbers())
    whole = network_input(batch["low"], table=equalization_table(to_codes(batch["low"])))
    patches = seen[0]
    for picture, patch in zip(whole, patches, strict=True):
        places = picture.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
        assert (places - patch).abs().amax((2, 3, 4)).min() < 1e-6


def test_randomness_comes_from_the_generator_only() -> None:
    batch = pairs()
    task = make(quant=255, crop=(32, 32))
    task.module.train()
    task.losses(batch, step=0, generator=numbers())
    first, again, other = (float(task.losses(batch, step=5, generator=numbers(s))["loss"]) for s in (1, 1, 2))
    assert first == again != other


def test_learns_to_restore() -> None:
    task, batch = make(weight_l1=50.0, quant=255), pairs()
    losses = descend(task, batch, steps=40, rate=3e-3)
    assert sum(losses[-5:]) < sum(losses[:5]) - 5
    low, result, target = task.pictures(batch, generator=numbers())
    assert task.captions == ("low", "llflow", "target")
    assert psnr(result, target) > psnr(low, target) + 3


@pytest.mark.parametrize("half", [False, True])
def test_exported_weights_load(tmp_path: Path, half: bool) -> None:
    task = make(
        network={**LLFLOW, "nb": 3, "taps": [2, 0]},
        half=half,
        licence="Apache-2.0",
        training_data="four generated pictures",
        keywords={"temperature": 0.25},
    )
    batch = pairs(2, 61, 50)
    descend(task, pairs(), steps=3)
    path = exported(task, tmp_path / "w.safetensors")
    model = load(path)
    assert isinstance(model, LLFlow)
    assert model.config.taps == (2, 0)
    assert model.temperature == 0.25
    assert (model.card.licence, model.card.training_data) == ("Apache-2.0", "four generated pictures")
    assert check(path).licence == "Apache-2.0"
    condition = model.condition(batch["low"])
    found = model.decode(model.prior(condition).mean, condition)
    wanted = task.pictures(batch, generator=numbers())[1]
    if half:
        assert psnr(found, wanted) > 55
        with safe_open(path, framework="pt") as file:
            kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 (not a dict)
        assert kinds["RRDB.conv_first.weight"] == torch.float16
        assert {kind for name, kind in kinds.items() if name.endswith("invconv.weight")} == {torch.float32}
    else:
        assert torch.equal(found, wanted)


def test_goes_on_from_a_file(tmp_path: Path) -> None:
    task = make()
    descend(task, pairs(), steps=3)
    path = exported(task, tmp_path / "w.safetensors")
    again = make(path)
    for name, tensor in task.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], tensor), name
    task.module.train()
    again.module.train()
    losses = [float(t.losses(pairs(), step=3, generator=numbers())["loss"]) for t in (task, again)]
    assert losses[0] == losses[1]  # in particular no norm is initialised a second time


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": None}, "options.network: missing"),
        ({"crop": (30, 32)}, "options.crop: must be multiples of 8"),
        ({"keywords": {"temprature": 1}}, "no setting 'temprature'"),
        ({"network": {**LLFLOW, "steps": [1, 1]}}, "3 positive numbers"),
        ({"network": {**LLFLOW, "hidden": 0}}, "must be positive"),
        ({"network": {**LLFLOW, "taps": [5]}}, "no weights file of this shape can be opened"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_starts_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        make(WEIGHTS, network=LLFLOW)
    with pytest.raises(ModelError, match="holds no llflow weights"):
        make(GOLDEN.parent / "glare" / "vqgan.safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        make(tmp_path / "absent.safetensors")


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        make().losses(pairs(1, 60, 64), step=0, generator=numbers())
    with pytest.raises(ConfigError, match="cannot be cut"):
        make(crop=(96, 96)).losses(pairs(), step=0, generator=numbers())


def test_flow_is_float32_under_autocast() -> None:
    task, batch = make(weight_l1=1.0), pairs()
    descend(task, batch, steps=2)
    exact = float(task.losses(batch, step=0, generator=numbers())["nll"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = task.losses(batch, step=0, generator=numbers())
    assert found["nll"].dtype == found["l1"].dtype == torch.float32
    assert float(found["nll"]) == pytest.approx(exact, abs=0.1)
