"""GLARE as a model: files, settings, any size of frame, bad input, training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamlight.errors import ConfigError, ModelError, StreamlightError
from streamlight.models import load
from streamlight.models.glare import VQGAN, AutoencoderConfig, Glare, combine
from streamlight.models.glare.losses import ms_ssim, nan_safe_l1, stage2_loss, stage3_loss
from streamlight.models.glare.network import trainable
from streamlight.models.glare.preprocess import border, quantize
from streamlight.models.glare.vqgan import SemanticHead
from streamlight.models.protocol import GenerativeModel

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "glare"
NET = FOLDER / "net_g.safetensors"
VQ = FOLDER / "vqgan.safetensors"


def opened(**keywords: object) -> Glare:
    model = load(NET, **keywords)
    assert isinstance(model, Glare)
    return model


@pytest.fixture(scope="module")
def model() -> Glare:
    return opened()


def dark(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def test_offers_the_protocol(model: Glare) -> None:
    assert isinstance(model, GenerativeModel)
    low = dark(1, 3, 20, 24)
    condition = model.condition(low)
    prior = model.prior(condition)
    assert prior.mean.shape == (1, 3, 5, 6)
    assert prior.std == 1.0
    bright = model.decode(prior.mean, condition)
    assert bright.shape == low.shape
    assert float(bright.min()) >= 0.0
    assert float(bright.max()) <= 1.0


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (4, 4), (5, 8), (17, 31)])
@pytest.mark.parametrize("padding", ["least", "benchmark", "unpaired"])
def test_any_size_comes_back_exactly(size: tuple[int, int], padding: str) -> None:
    model = opened(padding=padding)
    low = dark(1, 3, *size)
    bright = model.sample(low)[0]
    assert bright.shape == low.shape
    assert torch.isfinite(bright).all()
    frame = border(*size, padding=padding)  # type: ignore[arg-type]
    grown = frame.add(low)
    assert all(side % 4 == 0 for side in grown.shape[-2:])
    assert torch.equal(frame.remove(grown), low)
    with torch.no_grad():
        whole = model(grown)
    torch.testing.assert_close(bright, frame.remove(whole).clamp(0, 1), rtol=0, atol=1e-5)


def test_sizes_that_fit_are_not_padded() -> None:
    frame = border(48, 72, padding="least")
    low = dark(1, 3, 48, 72)
    assert frame.add(low) is low


def test_a_picture_does_not_depend_on_its_batch(model: Glare) -> None:
    batch = torch.cat([dark(1, 3, 16, 20, seed=1), dark(1, 3, 16, 20, seed=2) * 2.0])
    together = model.sample(batch)[0]
    alone = torch.cat([model.sample(part[None])[0] for part in batch])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_strength_blends(model: Glare) -> None:
    low = dark(1, 3, 16, 16)
    condition = model.condition(low)
    mean = model.prior(condition).mean
    full = model.decode(mean, condition)
    assert torch.equal(model.decode(mean, condition, strength=0.0), low)
    torch.testing.assert_close(model.decode(mean, condition, strength=0.25), low + 0.25 * (full - low))


def test_temperature_and_samples() -> None:
    model = opened(temperature=0.7)
    low = dark(1, 3, 16, 16)
    results = model.sample(low, samples=3, generator=torch.Generator().manual_seed(5))
    assert results.shape == (3, 1, 3, 16, 16)
    assert float((results[0] - results[1]).abs().max()) > 1e-3
    again = model.sample(low, samples=3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(results, again)
    still = model.sample(low, samples=2, temperature=0.0)
    assert torch.equal(still[0], still[1])
    assert torch.equal(still[0], opened().sample(low)[0])


def test_latents_share_one_condition(model: Glare) -> None:
    low = dark(1, 3, 16, 16)
    condition = model.condition(low)
    latents = model.prior(condition).mean + torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    together = model.decode(latents, condition)
    alone = torch.cat([model.decode(latent[None], condition) for latent in latents])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_latents_of_a_batch_come_sample_by_sample(model: Glare) -> None:
    low = torch.cat([dark(1, 3, 16, 16, seed=1), dark(1, 3, 16, 16, seed=2)])
    condition = model.condition(low)
    mean = model.prior(condition).mean
    once = model.decode(mean, condition)
    twice = model.decode(mean.repeat(2, 1, 1, 1), condition)
    torch.testing.assert_close(twice, once.repeat(2, 1, 1, 1), rtol=0, atol=2e-5)
    assert model.decode(mean.repeat(2, 1, 1, 1), condition, strength=0.0).shape == (4, 3, 16, 16)


def test_revision_tells_weights_and_settings_apart(tmp_path: Path, model: Glare) -> None:
    moved = load_file(NET)
    moved["deformable_decoder.mix.0.w"] += 1e-3
    save_file(moved, tmp_path / "net.safetensors")
    others = [opened(**keywords) for keywords in ({"fidelity": 0.5}, {"dtype": "bfloat16"}, {"padding": "benchmark"})]
    others.append(load(tmp_path / "net.safetensors", vqgan=VQ))  # type: ignore[arg-type]
    assert len({model.card.revision, *(other.card.revision for other in others)}) == 5
    assert opened().card.revision == model.card.revision


def test_fidelity_replaces_the_learned_weights() -> None:
    low = dark(1, 3, 16, 16)
    learned = opened()
    decoder = learned.deformable_decoder
    assert decoder is not None
    betas = [float(mix.w.detach().sigmoid()) for mix in decoder.mix]
    torch.testing.assert_close(opened(fidelity=betas).sample(low), learned.sample(low), rtol=0, atol=1e-5)
    faithful, free = opened(fidelity=1.0).sample(low), opened(fidelity=0.0).sample(low)
    assert float((faithful - free).abs().max()) > 1e-3
    condition = learned.condition(low)
    mean = learned.prior(condition).mean
    torch.testing.assert_close(learned.decode(mean, condition, fidelity=1.0), faithful[0], rtol=0, atol=1e-6)


def test_fidelity_0_ignores_the_dark_features_and_codebook_0_the_codebook(model: Glare) -> None:
    condition = model.condition(dark(1, 3, 16, 16))
    mean = model.prior(condition).mean
    other = model.condition(dark(1, 3, 16, 16))
    other.features |= {name: torch.randn_like(value) for name, value in other.features.items() if "tap" in name}
    assert torch.equal(model.decode(mean, condition, fidelity=0.0), model.decode(mean, other, fidelity=0.0))
    assert not torch.equal(model.decode(mean, condition), model.decode(mean, other))

    prior = model.vqgan
    assert prior is not None
    without = model.decode(mean, condition, codebook=0.0)
    full = model.decode(mean, condition)
    assert float((without - full).abs().max()) > 1e-3
    spoiled = opened()
    assert spoiled.vqgan is not None
    nn.init.normal_(spoiled.vqgan.quantize.embedding.weight, std=3.0)
    torch.testing.assert_close(spoiled.decode(mean, condition, codebook=0.0), without, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"fidelity": 1.5}, "fidelity must be between 0 and 1"),
        ({"fidelity": [0.1, 0.2, 0.3]}, "fidelity has 3 values"),
        ({"codebook": float("inf")}, "codebook"),
        ({"padding": "odd"}, "padding"),
        ({"norm_groups": 3}, "norm_groups must divide the width 8"),
        ({"dtype": "int8"}, "int8"),
        ({"heat": 1.0}, "no setting 'heat'"),
    ],
)
def test_settings_out_of_range(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(StreamlightError, match=message):
        opened(**keywords)


@pytest.mark.parametrize(
    "low",
    [
        torch.rand(3, 16, 16),
        torch.rand(1, 1, 16, 16),
        torch.rand(1, 3, 0, 16),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        [torch.rand(1, 3, 16, 16), torch.rand(1, 3, 8, 8)],
    ],
    ids=["no batch", "grey", "empty", "integers", "batch of different sizes"],
)
def test_bad_pictures(model: Glare, low: Tensor) -> None:
    with pytest.raises(ModelError, match="low must be"):
        model.condition(low)


def test_latent_of_another_picture(model: Glare) -> None:
    condition = model.condition(dark(2, 3, 16, 16))
    for shape in ((2, 3, 5, 4), (1, 3, 4, 4), (3, 3, 4, 4), (0, 3, 4, 4)):
        with pytest.raises(ModelError, match=r"latent must be \(2, 3, 4, 4\)"):
            model.decode(torch.zeros(shape), condition)


def test_official_pair_is_found_beside_each_other(tmp_path: Path, model: Glare) -> None:
    net = {f"module.{name}": tensor for name, tensor in load_file(NET).items()}
    torch.save(net, tmp_path / "net_G.pth")
    with pytest.raises(ModelError, match=r"vqgan\.pkl"):
        load(tmp_path / "net_G.pth")
    torch.save({**load_file(VQ), "unheard.of": torch.zeros(1)}, tmp_path / "vqgan.pkl")
    low = dark(1, 3, 16, 16)
    found = load(tmp_path / "net_G.pth")
    assert isinstance(found, Glare)
    assert torch.equal(found.sample(low), model.sample(low))


def test_named_codebook_and_both_in_one_file(tmp_path: Path, model: Glare) -> None:
    shutil.copy(NET, tmp_path / "some.safetensors")
    low = dark(1, 3, 16, 16)
    named = load(tmp_path / "some.safetensors", vqgan=VQ)
    combine(NET, VQ, tmp_path / "both.safetensors")
    (tmp_path / "some.safetensors").unlink()
    both = load(tmp_path / "both.safetensors")
    assert isinstance(both, Glare)
    both.save(tmp_path / "saved.safetensors")
    saved = load(tmp_path / "saved.safetensors")
    for other in (named, both, saved):
        assert isinstance(other, Glare)
        assert torch.equal(other.sample(low), model.sample(low))
    with pytest.raises(ModelError, match="exists already"):
        combine(NET, VQ, tmp_path / "both.safetensors")
    with pytest.raises(ModelError, match="holds the VQGAN already"):
        load(tmp_path / "both.safetensors", vqgan=VQ)


def test_a_saved_model_remembers_what_shapes_do_not_tell(tmp_path: Path, model: Glare) -> None:
    low = dark(1, 3, 16, 16)
    other = opened(norm_groups=8)
    assert not torch.equal(other.sample(low), model.sample(low))
    other.save(tmp_path / "eight.safetensors")
    again = load(tmp_path / "eight.safetensors")
    assert isinstance(again, Glare)
    assert again.card.revision == other.card.revision
    assert torch.equal(again.sample(low), other.sample(low))


def test_stage_2_file_decodes_through_the_normal_light_decoder(tmp_path: Path) -> None:
    net = {name: tensor for name, tensor in load_file(NET).items() if not name.startswith("deformable_decoder.")}
    save_file(net, tmp_path / "58250_G.safetensors")
    model = load(tmp_path / "58250_G.safetensors", vqgan=VQ, padding="benchmark")
    assert isinstance(model, Glare)
    golden = load_file(FOLDER / "tensors.safetensors")
    condition = model.condition(golden["io.low_rgb_u8"].permute(2, 0, 1)[None].float() / 255.0)
    bright = model.decode(model.prior(condition).mean, condition)
    wanted = golden["vq_ll.image"][..., :28, 20:].clamp(0, 1)
    torch.testing.assert_close(bright, wanted, rtol=0, atol=2e-4)
    with pytest.raises(ConfigError, match="stage III"):
        load(tmp_path / "58250_G.safetensors", vqgan=VQ, fidelity=0.5)


def _spoil(name: str, value: Tensor | None, path: Path, source: Path) -> Path:
    state = load_file(source)
    if value is None:
        del state[name]
    else:
        state[name] = value
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RRDB.encoder.mid.block_1.conv1.weight", None, "missing: RRDB.encoder.mid.block_1.conv1.weight"),
        ("deformable_decoder.mix.0.w", torch.zeros(2), "deformable_decoder.mix.0.w is 2, expected 1"),
        ("RRDB.color_conv.bias", torch.full((3,), float("nan")), "NaN or infinity: RRDB.color_conv.bias"),
        ("RRDB.surplus.weight", torch.zeros(1), "not part of this architecture: RRDB.surplus.weight"),
    ],
)
def test_damaged_weights_are_named(tmp_path: Path, name: str, value: Tensor | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(_spoil(name, value, tmp_path / "net.safetensors", NET), vqgan=VQ)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decoder.conv_in.bias", None, r"vq\.safetensors: does not fit .*decoder.conv_in.bias"),
        ("quantize.embedding.weight", torch.zeros(128, 4), "quantize.embedding.weight is 128x4"),
        ("post_quant_conv.bias", torch.full((3,), float("inf")), "NaN or infinity: post_quant_conv.bias"),
    ],
)
def test_damaged_codebook_is_named(tmp_path: Path, name: str, value: Tensor | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(NET, vqgan=_spoil(name, value, tmp_path / "vq.safetensors", VQ))


def test_the_codebook_alone_enhances_nothing() -> None:
    with pytest.raises(ModelError, match="stage I"):
        load(VQ)
    with pytest.raises(ModelError, match=r"expected GLARE's vqgan\.pkl"):
        load(NET, vqgan=NET)


def test_singular_mixing_is_an_error(tmp_path: Path) -> None:
    path = _spoil("flowUpsamplerNet.layers.3.invconv.weight", torch.ones(3, 3), tmp_path / "net.safetensors", NET)
    singular = load(path, vqgan=VQ)
    condition = singular.condition(dark(1, 3, 8, 8))
    with pytest.raises(ModelError, match="singular"):
        singular.decode(singular.prior(condition).mean, condition)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flow_round_trip(dtype: torch.dtype) -> None:
    model = opened()
    flow = model.flowUpsamplerNet.to(dtype)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(2, 3, 6, 5, generator=generator).to(dtype)
    condition = torch.rand(2, 10, 6, 5, generator=generator).to(dtype)
    with torch.no_grad():
        z, there = flow(latent, condition, torch.zeros(2, dtype=dtype))
        back, nothing = flow.inverse(z, condition, there)
    bound = 2e-4 if dtype == torch.float32 else 1e-11  # sigmoid scales near 0 are divided by on the way back
    assert float((back - latent).abs().max()) < bound
    assert float(nothing.abs().max()) < bound * float(there.abs().max())


@pytest.mark.parametrize(("dtype", "decibels"), [("bfloat16", 45.0), ("float16", 60.0)])
def test_reduced_precision_stays_close(dtype: str, decibels: float) -> None:
    golden = load_file(FOLDER / "tensors.safetensors")
    low = golden["io.low_rgb_u8"].permute(2, 0, 1)[None].float() / 255.0
    difference = opened(dtype=dtype).sample(low) - opened().sample(low)
    assert float(-10.0 * difference.square().mean().log10()) > decibels


def test_stage_2_learns() -> None:
    torch.manual_seed(0)
    model = opened().train()
    chosen = trainable(model, 2)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    assert any(name.startswith("deformable_decoder.") for name in frozen)
    low, latent = dark(2, 3, 16, 16), torch.randn(2, 3, 4, 4)
    optimizer = torch.optim.Adam(chosen, lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = stage2_loss(model, low, latent, train_gt_ratio=0.0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.5
    assert all(torch.equal(model.get_parameter(name), value) for name, value in frozen.items())


def test_stage_2_mean_is_the_latent_as_often_as_asked(model: Glare) -> None:
    low, latent = dark(1, 3, 8, 8), torch.randn(1, 3, 2, 2)
    with torch.no_grad():
        by_mean = stage2_loss(model, low, latent, train_gt_ratio=0.0)
        by_latent = stage2_loss(model, low, latent, train_gt_ratio=1.0)
        torch.testing.assert_close(by_mean, model.negative_log_likelihood(low, latent).mean())
        assert not torch.equal(by_mean, by_latent)


def test_stage_3_learns_the_fusion_decoder_only() -> None:
    torch.manual_seed(0)
    model = opened().train()
    chosen = trainable(model, 3)
    low, target = dark(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    losses = []
    optimizer = torch.optim.Adam(chosen, lr=1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        loss = stage3_loss(model(low), target)
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert losses[-1] < losses[0]
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert names
    assert all(name.startswith("deformable_decoder.") for name in names)
    assert {"deformable_decoder.mix.0.w", "deformable_decoder.warp.1.dcn.conv_offset.weight"} <= names


def test_stage_1_learns() -> None:
    torch.manual_seed(0)
    model = VQGAN(AutoencoderConfig(8, (1, 2), 1, (1,), 3, 4), codes=16)
    head = SemanticHead(channels=5)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=2e-3)
    image, features = torch.rand(1, 3, 16, 16), torch.rand(1, 5, 8, 8)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        output = model(image)
        loss = (output.image - image).abs().mean() + output.quantized.loss
        loss = loss + 0.1 * head(output.quantized.values, features)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = opened().train()
    low, target, latent = dark(1, 3, 16, 16), torch.rand(1, 3, 16, 16), torch.randn(1, 3, 4, 4)
    plain = stage2_loss(model, low, latent, train_gt_ratio=0.0)
    with torch.autocast("cpu", dtype=dtype):
        likelihood = stage2_loss(model, low, latent, train_gt_ratio=0.0)
        image = model(low)
    assert likelihood.dtype == torch.float32
    torch.testing.assert_close(likelihood, plain, rtol=0.05, atol=0.05)
    (likelihood + stage3_loss(image.float(), target).total).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.isfinite(model.eval().sample(low)).all()


def test_stage_3_terms() -> None:
    target = torch.rand(1, 3, 32, 32)
    perfect = stage3_loss(target, target, features=lambda image: [image, image[:, :, ::2]])
    assert float(perfect.total) == pytest.approx(0.0, abs=1e-6)
    assert float(ms_ssim(target, target)) == pytest.approx(1.0, abs=1e-6)
    shifted = stage3_loss(target * 0.5, target, features=lambda image: [image])
    assert float(shifted.perceptual) == pytest.approx(float(((target * 0.5) ** 2).mean()), rel=1e-5)
    expected = shifted.l1 + 0.01 * shifted.perceptual + 0.2 * (1 - shifted.ms_ssim)
    torch.testing.assert_close(shifted.total, expected)
    outside = stage3_loss(target + 2.0, target)
    torch.testing.assert_close(outside.l1, (1.0 - target).mean())


def test_l1_leaves_out_what_is_not_a_number() -> None:
    image = torch.tensor([[1.0, float("nan")]], requires_grad=True)
    loss = nan_safe_l1(image, torch.zeros(1, 2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.5
    assert image.grad is not None
    assert image.grad.tolist() == [[0.5, 0.0]]


def test_eight_bit_output_is_cut_off() -> None:
    assert quantize(torch.tensor([-0.5, 0.0, 0.9999, 1.0, 2.0])).tolist() == [0, 0, 254, 255, 255]
