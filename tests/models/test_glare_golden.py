"""GLARE against the golden set: every tensor and scalar, within the tolerance that the set states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from streamlight.models.glare import VQGAN, Glare
from streamlight.models.glare.config import deduce
from streamlight.models.glare.fusion import mean_ratio
from streamlight.models.glare.losses import ms_ssim, nan_safe_l1
from streamlight.models.glare.network import log_picture
from streamlight.models.glare.preprocess import border, grey_mean, match_grey_mean
from streamlight.models.nn.deform import deform_conv2d
from streamlight.models.nn.flow import ActNorm

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "glare"
INFO = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))


class Golden:
    """The set, and which of its tensors have been compared."""

    def __init__(self) -> None:
        self.tensors = load_file(FOLDER / "tensors.safetensors")
        self.compared: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def inputs(self, *names: str) -> None:
        """Mark tensors that are inputs of the comparison, not results."""
        self.compared.update(names)

    def check(self, name: str, value: Tensor, *, tolerance: float = 2e-4) -> None:
        """Compare by the rule of the set: ``|a - b|.max() <= tolerance · max(1, |reference|.max())``."""
        reference = self.tensors[name]
        assert value.shape == reference.shape, name
        self.compared.add(name)
        if not reference.is_floating_point():
            assert torch.equal(value.to(reference.dtype), reference), name
            return
        error = float((value.detach() - reference).abs().max())
        assert error <= tolerance * max(1.0, float(reference.abs().max())), f"{name}: {error:.2e}"


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


@pytest.fixture(scope="module")
def model() -> Glare:
    state = load_file(FOLDER / "net_g.safetensors")
    state |= {f"vqgan.{name}": tensor for name, tensor in load_file(FOLDER / "vqgan.safetensors").items()}
    config = deduce(state)
    model = Glare(config, padding="benchmark")
    left = model.load_state_dict(state, strict=False)
    assert not left.missing_keys
    training_only = ("vqgan.encoder.", "vqgan.quant_conv.", "vqgan.conv_semantic.", "deformable_decoder.conv_out.")
    assert all(name.startswith(training_only) for name in left.unexpected_keys)
    return model.eval()


@pytest.fixture(scope="module")
def vqgan() -> VQGAN:
    state = load_file(FOLDER / "vqgan.safetensors")
    config = deduce(state)
    model = VQGAN(config.autoencoder, config.codes)
    left = model.load_state_dict(state, strict=False)
    assert not left.missing_keys
    assert set(left.unexpected_keys) == {"conv_semantic.0.weight", "conv_semantic.0.bias"}
    return model.eval()


@pytest.fixture(params=[True, False], ids=["with gradients", "without"])
def gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Training and inference take different routes through some layers; both must give the golden values."""
    with torch.set_grad_enabled(request.param):
        yield


def picture(image: Tensor) -> Tensor:
    """HWC uint8 as NCHW float in [0, 1]."""
    return image.permute(2, 0, 1)[None].float() / 255.0


def hwc(image: Tensor) -> Tensor:
    return image[0].permute(1, 2, 0)


def test_configuration_is_deduced(model: Glare, vqgan: VQGAN) -> None:
    wanted, shape, flow = INFO["config"], model.config.autoencoder, model.config.flow
    assert flow is not None
    assert (shape.width, list(shape.multipliers), shape.blocks) == (8, wanted["ch_mult"], wanted["num_res_blocks"])
    assert shape.norm_groups == wanted["norm_groups"]
    assert shape.attention == (2,)
    assert (flow.coupled, flow.groups, flow.plain) == (
        wanted["flow_K"],
        wanted["flow_L"],
        wanted["flow_additional_no_affine"],
    )
    assert (flow.hidden, flow.condition_channels) == (wanted["flow_hidden"], wanted["cond_channels"])
    assert model.config.codes == vqgan.quantize.embedding.num_embeddings == wanted["n_embed"]
    decoder = model.deformable_decoder
    assert decoder is not None
    np.testing.assert_allclose([mix.w.item() for mix in decoder.mix], wanted["mix_w"], rtol=1e-6)


def test_padding_and_logarithm(golden: Golden) -> None:
    low = golden["io.low_rgb_u8"].permute(2, 0, 1)
    frame = border(28, 52, padding="benchmark")
    golden.check("pre.padded_rgb_u8", frame.add(low).permute(1, 2, 0))
    assert torch.equal(frame.remove(frame.add(low)), low)
    unpaired = border(28, 52, padding="unpaired")
    sides = INFO["config"]["unpaired_pad_top_bottom_left_right"]
    assert [unpaired.top, unpaired.bottom, unpaired.left, unpaired.right] == sides
    golden.check("pre.unpaired_padded_rgb_u8", unpaired.add(low).permute(1, 2, 0))
    golden.check("pre.log_input", log_picture(picture(golden["pre.padded_rgb_u8"])))
    golden.inputs("io.low_rgb_u8", "io.gt_rgb_u8")


@pytest.mark.usefixtures("gradients")
def test_conditional_encoder(golden: Golden, model: Glare) -> None:
    said = model.encode(picture(golden["pre.padded_rgb_u8"]))
    golden.check("cond.cond_feat", said.features)
    golden.check("cond.color_map", said.mean)
    golden.check("cond.mid_feat_full", said.taps[0])
    golden.check("cond.mid_feat_half", said.taps[1])


@pytest.mark.usefixtures("gradients")
def test_flow_inverse_layer_by_layer(golden: Golden, model: Glare) -> None:
    z, condition = golden["cond.color_map"], golden["cond.cond_feat"]
    for number, step in reversed(list(enumerate(model.flowUpsamplerNet.steps))):
        z, _ = step.inverse(z, condition)
        golden.check(f"flow_inv.after_layer_{number:02d}", z)
    whole, _ = model.flowUpsamplerNet.inverse(golden["cond.color_map"], condition)
    golden.check("flow_inv.z_nl", whole)


@pytest.mark.usefixtures("gradients")
def test_codebook_and_normal_light_decoder(golden: Golden, model: Glare) -> None:
    prior = model.vqgan
    assert prior is not None
    latent = golden["flow_inv.z_nl"]
    image, quantized = prior.decode(latent)
    golden.check("vq_ll.quantized", quantized.values)
    golden.check("vq_ll.indices", quantized.indices.flatten())
    golden.check("vq_ll.loss", quantized.loss)
    golden.check("vq_ll.image", image)
    golden.check("vq_ll.post_quant", prior.lookup(latent))
    full, half = prior.decoder.features(prior.lookup(latent))
    golden.check("vq_ll.feat_full", full)
    golden.check("vq_ll.feat_half", half)
    again, features = prior.decoder.image_and_features(prior.lookup(latent))
    torch.testing.assert_close(again, prior.decoder(prior.lookup(latent)))
    torch.testing.assert_close(features, [full, half])


@pytest.mark.usefixtures("gradients")
@pytest.mark.parametrize(("index", "level", "size"), [(0, 1, "half"), (1, 0, "full")])
def test_fusion(golden: Golden, model: Glare, index: int, level: int, size: str) -> None:
    decoder = model.deformable_decoder
    assert decoder is not None
    dark, normal = golden[f"cond.mid_feat_{size}"], golden[f"vq_ll.feat_{size}"]
    if size == "half":
        h = decoder.start(golden["flow_inv.z_nl"])
        h = decoder.level(2)(h)
        h = decoder.level(1)(decoder.level(2).upsample(h))
        golden.check("dec.half.before_mix", h)
        mixed = decoder.mix[index](dark, h)
        golden.check("dec.half.after_mix", mixed)
    mixed = golden[f"dec.{size}.after_mix"]
    warp = decoder.warp[index]
    guide = warp.offset(torch.cat([normal, mixed], 1))
    if size == "half":
        golden.check("dec.half.offset_feat", guide)
    golden.check(f"dec.{size}.conv_offset_abs_mean", warp.dcn.conv_offset(guide).abs().mean((0, 2, 3)))
    warped = warp(normal, mixed)
    golden.check(f"dec.{size}.warped", warped)
    golden.check(f"dec.{size}.mean_ratio", mean_ratio(mixed, warped).flatten())


@pytest.mark.usefixtures("gradients")
def test_fusion_at_full_size_receives_what_the_half_size_made(golden: Golden, model: Glare) -> None:
    decoder = model.deformable_decoder
    assert decoder is not None
    mixed, warped = golden["dec.half.after_mix"], golden["dec.half.warped"]
    h = mixed + warped * golden["dec.half.mean_ratio"]
    h = decoder.level(0)(decoder.level(1).upsample(h))
    golden.check("dec.full.after_mix", decoder.mix[1](golden["cond.mid_feat_full"], h))


@pytest.mark.usefixtures("gradients")
def test_whole_network(golden: Golden, model: Glare) -> None:
    golden.check("out.network_raw", model(picture(golden["pre.padded_rgb_u8"])))


def test_model_pads_crops_and_clamps_as_the_benchmark(golden: Golden, model: Glare) -> None:
    condition = model.condition(picture(golden["io.low_rgb_u8"]))
    bright = model.decode(model.prior(condition).mean, condition)
    golden.check("out.cropped_clamped_hwc", hwc(bright))
    torch.testing.assert_close(model.sample(picture(golden["io.low_rgb_u8"]))[0], bright)


def test_published_metrics(golden: Golden) -> None:
    restored, target = golden["out.cropped_clamped_hwc"], picture(golden["io.gt_rgb_u8"])
    image = restored.permute(2, 0, 1)[None]
    adjusted = match_grey_mean(image, target)
    golden.check("out.gtmean_hwc", hwc(adjusted))
    scalars = INFO["scalars"]
    found = {
        "gray_mean_restored": float(grey_mean(image)),
        "gray_mean_target": float(grey_mean(target)),
        "psnr_no_gtmean_float": psnr(hwc(image).numpy(), hwc(target).numpy()),
        "psnr_gtmean_float": psnr(hwc(adjusted).numpy(), hwc(target).numpy()),
        "ssim_no_gtmean_u8": ssim(hwc(image).numpy(), hwc(target).numpy()),
        "ssim_gtmean_u8": ssim(hwc(adjusted).numpy(), hwc(target).numpy()),
    }
    padded = border(28, 52, padding="benchmark").add(target)
    output = golden["out.network_raw"].clamp(0, 1)
    found["stage3_l1"] = float(nan_safe_l1(output, padded))
    found["stage3_msssim_normalized"] = float(ms_ssim(output, padded))
    assert found.keys() == scalars.keys()
    for name, value in found.items():
        assert value == pytest.approx(scalars[name], rel=1e-3), name


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10.0 * np.log10(1.0 / np.mean((b.astype(np.float64) - a) ** 2)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM on rounded 8-bit pictures: Gaussian 11, sigma 1.5, valid region, mean over channels."""
    x, y = (np.round(image.astype(np.float64) * 255.0) for image in (a, b))
    line = cv2.getGaussianKernel(11, 1.5)

    def blur(z: np.ndarray) -> np.ndarray:
        return cv2.filter2D(z, -1, line @ line.T)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))))


def test_stage_1(golden: Golden, vqgan: VQGAN) -> None:
    latent = vqgan.encode(golden["nl.image"])
    golden.check("vq_nl.latent", latent)
    output = vqgan(golden["nl.image"])
    golden.check("vq_nl.quantized", output.quantized.values)
    golden.check("vq_nl.indices", output.quantized.indices.flatten())
    golden.check("vq_nl.loss", output.quantized.loss.reshape(1))
    golden.check("vq_nl.recon", output.image)

    leaf = golden["vq_nl.latent"].clone().requires_grad_()
    image, quantized = vqgan.decode(leaf)
    loss = 10.0 * (image * golden["vq_nl.grad_probe_weight"]).mean() + quantized.loss
    golden.check("vq_nl.grad_latent", torch.autograd.grad(loss, leaf)[0], tolerance=1e-3)
    golden.inputs("nl.image", "vq_nl.grad_probe_weight")


def test_stage_2_likelihood_and_gradients(golden: Golden, model: Glare) -> None:
    said = model.RRDB(golden["nll.log_input"], taps=False)
    golden.check("nll.cond_feat", said.features)
    golden.check("nll.color_map", said.mean)
    z, logdet = golden["vq_nl.latent"], torch.zeros(2)
    for number, step in enumerate(model.flowUpsamplerNet.steps):
        z, logdet = step(z, said.features, logdet)
        golden.check(f"nll.after_layer_{number:02d}.z", z)
        golden.check(f"nll.after_layer_{number:02d}.logdet", logdet)
    golden.check("nll.z", z)
    golden.check("nll.logdet", logdet)
    golden.inputs("nll.log_input")

    low = golden["nll.log_input"].double().exp() - 1e-3
    latent = golden["vq_nl.latent"]
    torch.testing.assert_close(log_picture(low).float(), golden["nll.log_input"], rtol=0, atol=1e-5)
    likelihood = model.negative_log_likelihood(low.float(), latent)
    golden.check("nll.nll_mean_is_color_map", likelihood)
    golden.check("nll.nll_mean_is_gt", model.negative_log_likelihood(low.float(), latent, mean_is_latent=True))

    prefix = "nll.grad."
    names = [name.removeprefix(prefix) for name in golden.tensors if name.startswith(prefix)]
    assert len(names) == 8
    gradients = torch.autograd.grad(likelihood.mean(), [model.get_parameter(name) for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        golden.check(prefix + name, gradient, tolerance=1e-3)


def test_activation_norm_initialisation(golden: Golden) -> None:
    norm = ActNorm(5)
    output, logdet = norm(golden["actnorm_init.input"], torch.zeros(2))
    golden.check("actnorm_init.output", output)
    golden.check("actnorm_init.bias", norm.bias)
    golden.check("actnorm_init.logs", norm.logs)
    assert logdet is not None
    golden.check("actnorm_init.logdet", logdet)
    golden.inputs("actnorm_init.input")


@pytest.mark.usefixtures("gradients")
def test_deformable_convolution(golden: Golden) -> None:
    names = [f"dcn.{name}" for name in ("x", "offset", "mask", "weight", "bias")]
    golden.check("dcn.out", deform_conv2d(*(golden[name] for name in names)))
    golden.inputs(*names)


def test_every_tensor_of_the_set_was_compared(golden: Golden, request: pytest.FixtureRequest) -> None:
    """Last in this file: counts what the tests above have looked at."""
    here = [item for item in request.session.items if item.path == request.node.path]
    if len(here) < 20:
        pytest.skip("only a part of this file is being run")
    assert set(INFO["tensors"]) == set(golden.tensors)
    assert golden.compared == set(golden.tensors)
