"""The three tasks of GLARE: published losses, what each stage trains, and the way from one to the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamlight import load
from streamlight.errors import ConfigError, ModelError
from streamlight.models.glare import Glare
from streamlight.models.glare.losses import ms_ssim
from streamlight.models.glare.preprocess import border
from streamlight.training.tasks import vgg
from streamlight.training.tasks.adversary import PatchDiscriminator, play
from streamlight.training.tasks.glare import (
    FlowOptions,
    FlowTask,
    FusionOptions,
    FusionTask,
    VQGANOptions,
    VQGANTask,
)
from tests.training.tasks import FLOW, VQGAN, descend, exported, gradients, numbers, pairs, psnr

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "glare"
INFO: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
GOLDEN_FLOW = {"channels": 3, "condition_channels": 10, "hidden": 8, "groups": 2, "plain": 2, "coupled": 3}


def stage1(start: Path | None = None, **options: Any) -> VQGANTask:
    if start is None:
        options = {"network": VQGAN, "codes": 16, **options}
    torch.manual_seed(0)
    return VQGANTask.build(VQGANOptions(**{"discriminator_width": 8, **options}), start=start, device="cpu")


def stage2(start: Path | None, **options: Any) -> FlowTask:
    torch.manual_seed(0)
    return FlowTask.build(FlowOptions(**{"network": FLOW, **options}), start=start, device="cpu")


def stage3(start: Path | None, **options: Any) -> FusionTask:
    torch.manual_seed(0)
    return FusionTask.build(FusionOptions(**options), start=start, device="cpu")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "tensors.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Weights files of the three stages, each trained for a few steps from the one before."""
    folder, batch = tmp_path_factory.mktemp("stages"), pairs()
    first = stage1(codebook_from_data=True, half=True)
    descend(first, batch, steps=10)
    found = {1: exported(first, folder / "vqgan_run.safetensors")}
    second = stage2(found[1], half=True, weight_l1=0.5)
    descend(second, batch, steps=10)
    found[2] = exported(second, folder / "flow_run.safetensors")
    third = stage3(found[2], half=True, licence="CC0-1.0")
    descend(third, batch, steps=10)
    found[3] = exported(third, folder / "fusion_run.safetensors")
    return found


def test_stage_1_is_the_published_reconstruction(golden: dict[str, Tensor]) -> None:
    task = stage1(GOLDEN / "vqgan.safetensors", weight_adversarial=0.0)
    task.module.train()
    batch = {"low": golden["nl.image"], "target": golden["nl.image"]}
    found = task.losses(batch, step=0, generator=numbers())
    recon = golden["vq_nl.recon"]
    l1, similarity = (recon - golden["nl.image"]).abs().mean(), ms_ssim(recon.clamp(0, 1), golden["nl.image"])
    assert float(found["codebook"].detach()) == pytest.approx(float(golden["vq_nl.loss"]), rel=2e-4)
    assert float(found["l1"]) == pytest.approx(float(l1), rel=2e-4)
    assert float(found["ssim"]) == pytest.approx(float(similarity), rel=1e-3)
    wanted = float(l1 + golden["vq_nl.loss"] + 0.2 * (1 - similarity))
    assert float(found["loss"]) == pytest.approx(wanted, rel=1e-3)
    used = len(golden["vq_nl.indices"].unique()) / len(task.module["vqgan"].state_dict()["quantize.embedding.weight"])
    assert float(found["codes"]) == pytest.approx(used)


@pytest.mark.parametrize(("ratio", "name"), [(0.0, "color_map"), (1.0, "gt")])
def test_stage_2_is_the_published_likelihood(golden: dict[str, Tensor], ratio: float, name: str) -> None:
    task = stage2(GOLDEN / "vqgan.safetensors", network=GOLDEN_FLOW, train_gt_ratio=ratio)
    state = {k: v for k, v in load_file(GOLDEN / "net_g.safetensors").items() if not k.startswith("deformable")}
    left = task.module.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(key.startswith("vqgan.") for key in left.missing_keys)
    low = (golden["nll.log_input"].double().exp() - 1e-3).float()
    batch = {"low": low, "target": golden["nl.image"]}
    task.module.train()
    found = task.losses(batch, step=0, generator=numbers())
    assert float(found["nll"]) == pytest.approx(float(golden[f"nll.nll_mean_is_{name}"].mean()), abs=2e-3)
    if name == "gt":
        return
    of = gradients(task, batch)
    for key in (name for name in golden if name.startswith("nll.grad.")):
        error = (of[key.removeprefix("nll.grad.")] - golden[key]).abs().max()
        assert float(error) <= 2e-3 * max(1.0, float(golden[key].abs().max())), key


def test_stage_3_is_the_published_loss(golden: dict[str, Tensor]) -> None:
    task = stage3(GOLDEN / "net_g.safetensors")  # with the golden VQGAN beside it
    low = golden["pre.padded_rgb_u8"].permute(2, 0, 1)[None].float() / 255
    target = golden["io.gt_rgb_u8"].permute(2, 0, 1)[None].float() / 255
    target = border(28, 52, padding="benchmark").add(target)
    task.module.train()
    found = task.losses({"low": low, "target": target}, step=0, generator=numbers())
    l1, similarity = (INFO["scalars"][name] for name in ("stage3_l1", "stage3_msssim_normalized"))
    assert float(found["l1"]) == pytest.approx(l1, rel=1e-3)
    assert float(found["ms_ssim"]) == pytest.approx(similarity, rel=1e-3)
    assert float(found["loss"]) == pytest.approx(l1 + 0.2 * (1 - similarity), rel=1e-3)


def test_every_stage_trains_its_own(files: dict[int, Path]) -> None:
    first = stage1(files[1])
    assert {name.split(".")[0] for name in gradients(first, pairs())} == {"vqgan", "discriminator"}
    second = stage2(files[1], weight_l1=1.0)
    assert {name.split(".")[0] for name in gradients(second, pairs())} == {"RRDB", "flowUpsamplerNet"}
    third = stage3(files[2])
    assert {name.split(".")[0] for name in gradients(third, pairs())} == {"deformable_decoder"}


def test_frozen_parts_do_not_change(files: dict[int, Path]) -> None:
    for task, moving in (
        (stage2(files[1]), ("RRDB.", "flowUpsamplerNet.")),
        (stage3(files[2]), ("deformable_decoder.",)),
    ):
        before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
        descend(task, pairs(), steps=2)
        changed = {name for name, tensor in task.module.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed
        assert all(name.startswith(moving) for name in changed)


def test_losses_fall(files: dict[int, Path]) -> None:
    batch = pairs()
    tasks = (stage1(codebook_from_data=True, weight_adversarial=0.0), stage2(files[1]), stage3(files[2]))
    for task, least in zip(tasks, (0.1, 0.5, 0.05), strict=True):
        losses = descend(task, batch, steps=30)
        assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - least, type(task).__name__


def test_saturated_pixels_teach_if_they_shall(files: dict[int, Path]) -> None:
    batch, norms, losses = pairs(), {}, {}
    for teach in (False, True):
        task = stage3(files[2], teach_saturated=teach)
        decoder = task.module.deformable_decoder
        assert decoder is not None
        with torch.no_grad():
            decoder.residual_conv.bias.fill_(-50.0)  # everything is below black
        norms[teach] = sum(float(gradient.abs().sum()) for gradient in gradients(task, batch).values())
        losses[teach] = float(task.losses(batch, step=0, generator=numbers())["loss"].detach())
    assert norms[False] == 0.0
    assert norms[True] > 0.0
    assert losses[False] == losses[True]


def test_codebook_starts_in_reach() -> None:
    batch = pairs()
    shares = {}
    for fill in (False, True):
        task = stage1(codes=64, codebook_from_data=fill, weight_adversarial=0.0)
        task.module.train()
        shares[fill] = float(task.losses(batch, step=0, generator=numbers())["codes"])
        later = task.module["vqgan"].state_dict()["quantize.embedding.weight"].clone()
        task.losses(batch, step=1, generator=numbers())
        assert torch.equal(task.module["vqgan"].state_dict()["quantize.embedding.weight"], later)
    assert shares[True] > 0.5 > shares[False]


def test_discriminator_waits_its_turn() -> None:
    task, batch = stage1(adversarial_after=5), pairs()
    task.module.train()
    assert "judge" not in task.losses(batch, step=4, generator=numbers())
    assert "judge" in task.losses(batch, step=5, generator=numbers())
    assert "discriminator" not in stage1(weight_adversarial=0.0).module


def test_each_side_of_the_game_gets_its_own_gradient() -> None:
    torch.manual_seed(0)
    judge, picture, target = PatchDiscriminator(8), torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    picture.requires_grad_()
    game = play(judge, picture, target)
    parameters = list(judge.parameters())
    assert torch.autograd.grad(game.deceive, parameters, retain_graph=True, allow_unused=True) == (None,) * len(
        parameters
    )
    (to_picture,) = torch.autograd.grad(game.deceive, picture)
    assert to_picture.abs().sum() > 0
    assert torch.autograd.grad(game.judge, picture, retain_graph=True, allow_unused=True) == (None,)
    for gradient in torch.autograd.grad(game.judge, parameters):
        assert gradient.abs().sum() > 0 or gradient.shape == (1,)  # on the last bias the two sides cancel
    assert float(game.deceive) == pytest.approx(-float(judge(picture).mean()), rel=1e-4)


def test_discriminator_learns_to_tell() -> None:
    torch.manual_seed(0)
    judge, real = PatchDiscriminator(8), pairs(4)["target"]
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(25):
        optimizer.zero_grad()
        play(judge, real + 0.2 * torch.randn_like(real), real).judge.backward()
        optimizer.step()
    assert float(judge(real).mean()) > float(judge(real + 0.2 * torch.randn_like(real)).mean()) + 0.5


def test_every_stage_leaves_a_file_for_the_next_and_for_use(files: dict[int, Path]) -> None:
    with pytest.raises(ModelError, match="stage I"):
        load(files[1])
    batch = pairs(1, 46, 62)
    for stage, task in ((2, stage2(files[1])), (3, stage3(files[3]))):
        model = load(files[stage])
        assert isinstance(model, Glare)
        assert model.config.autoencoder.norm_groups == VQGAN["norm_groups"]
        condition = model.condition(batch["low"])
        found = model.decode(model.prior(condition).mean, condition)
        assert found.shape == batch["low"].shape
        if stage == 3:
            assert model.card.licence == "CC0-1.0"
            assert psnr(found, task.pictures(batch, generator=numbers())[1]) > 50  # layouts differ, and so do roundings
    names = set(load_file(files[3]))
    assert not any(name.startswith(("vqgan.encoder.", "vqgan.quant_conv.")) for name in names)


def test_half_precision_costs_little(files: dict[int, Path], tmp_path: Path) -> None:
    task, batch = stage3(files[2], half=True), pairs()
    descend(task, batch, steps=3)
    stored = load_file(exported(task, tmp_path / "w.safetensors"))
    assert {t.dtype for name, t in stored.items() if name.startswith(("RRDB.", "flow"))} == {torch.float32}
    assert stored["deformable_decoder.conv_in.weight"].dtype == torch.float16
    model = load(tmp_path / "w.safetensors")
    condition = model.condition(batch["low"])
    found = model.decode(model.prior(condition).mean, condition)
    assert psnr(found, task.pictures(batch, generator=numbers())[1]) > 45


def test_starts_that_cannot_be(files: dict[int, Path], tmp_path: Path) -> None:
    for make, needs in ((stage2, "stage I"), (stage3, "stage II")):
        with pytest.raises(ConfigError, match=f"start: missing; .* needs the weights of {needs} "):
            make(None)
    for make in (stage1, stage2):
        with pytest.raises(ModelError, match=r"expected weights of stage I .*got those of stage 2"):
            make(files[2])
    with pytest.raises(ModelError, match="stage I"):
        stage3(files[1])
    with pytest.raises(ConfigError, match="leave one of them out"):
        stage1(files[1], network=VQGAN, codes=17)
    with pytest.raises(ConfigError, match="have 3"):
        stage2(files[1], network={**FLOW, "channels": 4})


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (None, "options.network: missing"),
        ({**VQGAN, "norm_groups": 3}, "width must be a multiple of norm_groups"),
        ({**VQGAN, "width": 6}, "width must be a multiple of norm_groups and of 4"),
        ({**VQGAN, "blocks": 0}, "must be positive"),
    ],
)
def test_shapes_that_cannot_be(network: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stage1(network=network)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="multiples of 2"):
        stage1().losses(pairs(1, 47, 64), step=0, generator=numbers())


def vgg_file(path: Path, depth: int) -> Path:
    """Random weights under torchvision's names, classifier included."""
    draw = numbers()
    layers = torch.nn.Sequential(*vgg._layers(depth))
    state = {
        f"features.{name}": torch.randn(tensor.shape, generator=draw) * (2 / tensor[0].numel()) ** 0.5
        for name, tensor in layers.state_dict().items()
    }
    save_file({**state, "classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def test_vgg_terms(files: dict[int, Path], tmp_path: Path) -> None:
    sixteen, nineteen = vgg_file(tmp_path / "16.safetensors", 16), vgg_file(tmp_path / "19.safetensors", 19)
    batch = pairs()
    shape = {**VQGAN, "multipliers": [1, 2, 2], "attention": [2]}  # codes at a quarter of the size, as relu3_4
    task = stage1(network=shape, perceptual=sixteen, semantic=nineteen)
    found = gradients(task, batch)
    assert any(name.startswith("semantic.") for name in found)
    losses = task.losses(batch, step=0, generator=numbers())
    assert losses["perceptual"] > 0
    assert losses["semantic"] > 0
    names = load_file(exported(task, tmp_path / "w.safetensors"))
    assert not any(name.startswith(("features", "semantic", "discriminator", "conv_semantic")) for name in names)
    plain, felt = stage3(files[2]), stage3(files[2], perceptual=sixteen)
    difference = (
        felt.losses(batch, step=0, generator=numbers())["loss"]
        - plain.losses(batch, step=0, generator=numbers())["loss"]
    )
    perceptual = felt.losses(batch, step=0, generator=numbers())["perceptual"]
    assert float(difference) == pytest.approx(0.01 * float(perceptual), rel=1e-3)
    with pytest.raises(ModelError, match="holds no VGG16"):
        stage3(files[2], perceptual=nineteen)
    with pytest.raises(ModelError, match="holds no VGG19"):
        stage1(semantic=sixteen)


def test_vgg_taps_are_those_of_torchvision() -> None:
    convolutions = [i for i, layer in enumerate(vgg._layers(16)) if isinstance(layer, torch.nn.Conv2d)]
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    convolutions = [i for i, layer in enumerate(vgg._layers(19)) if isinstance(layer, torch.nn.Conv2d)]
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
