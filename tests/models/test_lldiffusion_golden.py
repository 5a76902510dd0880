"""LLDiffusion against the golden data: small networks whose published counterpart computed every number."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from streamlight.models import load
from streamlight.models.lldiffusion import LLDiffusion, training_losses
from streamlight.models.lldiffusion.diffusion import alpha_bars, diffuse, time_steps
from streamlight.models.lldiffusion.preprocess import quantize

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "lldiffusion"
NAMES = ("lol_tiny", "v2_tiny")
PROBES = [("lol_tiny", 990), ("lol_tiny", 310), ("v2_tiny", 760), ("v2_tiny", 40)]


@cache
def facts(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@cache
def tensors(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{name}_io.safetensors")


@cache
def model(name: str, **keywords: Any) -> LLDiffusion:
    loaded = load(GOLDEN / f"{name}_weights.safetensors", steps=4, **keywords)
    assert isinstance(loaded, LLDiffusion)
    return loaded


def picture(name: str, key: str = "low_u8") -> Tensor:
    """A stored 8-bit picture as ``(1, 3, H, W)`` in [0, 1]."""
    return tensors(name)[key][None].float() / 255


def assert_close(got: Tensor, want: Tensor, *, tolerance: float) -> None:
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


def test_color_map() -> None:
    condition = model("lol_tiny").condition(picture("lol_tiny"))
    torch.testing.assert_close(condition.features["color"], tensors("lol_tiny")["color_map"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_latent_map_encoder(name: str) -> None:
    golden, encoder = tensors(name), model(name).encoder
    code = encoder.encoder(2 * picture(name) - 1)
    assert_close(code, golden["encoder_mu"], tolerance=1e-4)
    features = encoder.upsample(code)
    for index, feature in enumerate(features):
        sparse = f"deg_feature_{index}_every8"
        want = golden[sparse] if sparse in golden else golden[f"deg_feature_{index}"]
        assert_close(feature[..., ::8, ::8] if sparse in golden else feature, want, tolerance=1e-4)
    assert_close(torch.stack([feature.mean() for feature in features]), golden["deg_feature_mean"], tolerance=1e-4)
    assert_close(torch.stack([feature.std() for feature in features]), golden["deg_feature_std"], tolerance=1e-4)


@pytest.mark.parametrize(("name", "time"), PROBES)
@torch.no_grad()
def test_noise_prediction(name: str, time: int) -> None:
    golden, network = tensors(name), model(name)
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, key=key: seen.update({key: output}))
        for key, module in (("temb", network.diff_unet.temb), ("mid", network.diff_unet.mid))
    ]
    try:
        noise, dark = network(golden["x_T"].float(), 2 * picture(name) - 1, torch.tensor([time]))
    finally:
        for hook in hooks:
            hook.remove()
    assert dark is None
    assert_close(noise, golden[f"eps_t{time}"], tolerance=1e-4)
    for key, output in seen.items():
        if time in (990, 760):  # stored for one time step of each network
            assert_close(output, golden[f"act_{key}_t{time}"], tolerance=1e-4)


@torch.no_grad()
def test_dgnet() -> None:
    network, x, y = model("lol_tiny"), 2 * picture("lol_tiny", "high_u8") - 1, 2 * picture("lol_tiny") - 1
    assert network.deg_unet is not None
    dark = network.deg_unet(x, network.encoder(y))
    assert_close(dark, tensors("lol_tiny")["dgnet_pred_low"], tolerance=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_trajectory_and_picture(name: str) -> None:
    golden, network = tensors(name), model(name)
    condition = network.condition(picture(name))
    states = list(network.trajectory(golden["x_T"].float(), condition))
    assert len(states) == 4
    for index, state in enumerate(states, start=1):
        if f"traj_x_{index}" in golden:
            assert_close(state, golden[f"traj_x_{index}"], tolerance=5e-4)
    assert_close(states[-1], golden["traj_x_4"], tolerance=5e-4)
    bright = network.decode(golden["x_T"].float(), condition)
    difference = (quantize(bright[0]).int() - golden["final_u8"].int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= 0.01


@torch.no_grad()
def test_tiles_as_published() -> None:
    golden, facts_ = tensors("lol_tiny"), facts("lol_tiny")["patch"]
    network = model(
        "lol_tiny", tile=facts_["patch_size"], stride=facts_["grid_r"], blend="box", padding="official", tile_batch=2
    )
    condition = network.condition(picture("lol_tiny"))
    *_, final = network.trajectory(golden["x_T"].float(), condition)
    assert_close(final, golden["patch_final"], tolerance=5e-4)


@torch.no_grad()
def test_padding_as_published() -> None:
    golden, network = tensors("lol_tiny"), model("lol_tiny", padding="official")
    condition = network.condition(picture("lol_tiny", "pad_low_u8"))
    assert list(condition.features["y"].shape[-2:]) == facts("lol_tiny")["pad_case"]["network_hw"]
    bright = network.decode(golden["pad_noise"].float(), condition)
    assert_close(bright[0], golden["pad_restored"], tolerance=5e-4)


def test_training_losses_and_gradients() -> None:
    golden, want = tensors("lol_tiny"), facts("lol_tiny")["training_forward"]
    network = load(GOLDEN / "lol_tiny_weights.safetensors")
    assert isinstance(network, LLDiffusion)
    network.train()
    losses = training_losses(
        network,
        picture("lol_tiny"),
        picture("lol_tiny", "high_u8"),
        t=torch.tensor([want["t"]]),
        noise=golden["train_e_half"].float(),
        image_weight=want["loss_weights"]["image_loss"],
    )
    losses.total.backward()
    assert losses.noise.item() == pytest.approx(want["losses"]["noise_loss"], rel=1e-4)
    assert losses.image.item() == pytest.approx(want["losses"]["image_loss"], rel=1e-4)
    assert losses.total.item() == pytest.approx(want["weighted_total"], rel=1e-4)
    for name, norm in want["grad_l2"].items():
        gradients = [parameter.grad for parameter in network.get_submodule(name).parameters()]
        assert all(gradient is not None for gradient in gradients), name
        total = sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None) ** 0.5
        assert total == pytest.approx(norm, rel=1e-3), name


def test_parameters_without_gradient_are_those_left_out() -> None:
    """What the published network never uses, ours does not have; everything else it has."""
    stored = {key.removeprefix("module.") for key in load_file(GOLDEN / "lol_tiny_weights.safetensors")}
    ours = set(model("lol_tiny").state_dict())
    dead = {key.removeprefix("module.") for key in facts("lol_tiny")["training_forward"]["params_with_no_grad"]}
    assert ours | dead == stored
    assert not ours & dead


@pytest.mark.parametrize("name", NAMES)
def test_time_steps_and_schedule(name: str) -> None:
    for steps, times in facts(name)["timestep_lists_descending"].items():
        assert time_steps(int(steps)) == times
    for time, value in facts(name)["alpha_bar_float32"].items():
        assert alpha_bars()[int(time) + 1] == value


def test_noising_at_one_time_or_one_per_picture() -> None:
    x, noise = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    both = diffuse(x, torch.tensor([0, 999]), noise)
    assert torch.equal(both[:1], diffuse(x[:1], 0, noise[:1]))
    assert torch.equal(both[1:], diffuse(x[1:], 999, noise[1:]))
    assert (both[1] - noise[1]).abs().max() < 0.02  # nothing of the picture is left
