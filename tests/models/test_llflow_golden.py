"""LLFlow against its golden set: every tensor, on the reference network and on the fast path."""

from __future__ import annotations

import copy

import pytest
import torch
from llflow_golden import INFO, WEIGHTS, close, nchw, tensors
from torch import Tensor

from streamlight.models.llflow.config import UNUSED, deduce
from streamlight.models.llflow.encoder import color_map_of, noise_map, raw_color_map
from streamlight.models.llflow.network import LLFlowNetwork, latent_mean
from streamlight.models.llflow.prepared import PreparedNetwork
from streamlight.models.llflow.preprocess import centred_padding, network_input, pad_symmetric
from streamlight.models.llflow.protocols import gt_mean_aligned, psnr, to_codes_truncated, training_validation
from streamlight.models.nn.flow import ActNorm
from streamlight.models.weights import assemble, read_weights

BATCH = 2
PADDING = centred_padding(30, 43, 16, always=True)
CHECKED: set[str] = set()


def check(name: str, found: Tensor) -> None:
    close(name, found)
    CHECKED.add(name)


@pytest.fixture(scope="module")
def network() -> LLFlowNetwork:
    weights = read_weights(WEIGHTS)
    config = deduce(weights.tensors)
    return assemble(lambda: LLFlowNetwork(config), weights, unused=UNUSED)


def test_padding_and_preprocessing() -> None:
    assert list(PADDING) == INFO["padding_top_bottom_left_right"]
    for name in ("raw_low_uint8", "raw_gt_uint8"):
        assert list(tensors()[name].shape[1:3]) == INFO["raw_image_hw"]
        CHECKED.add(name)
    check("lq", network_input(pad_symmetric(nchw(tensors()["raw_low_uint8"]), PADDING)))
    check("gt", pad_symmetric(nchw(tensors()["raw_gt_uint8"]), PADDING).float() / 255.0)


@torch.no_grad()
def test_encoder(network: LLFlowNetwork) -> None:
    lq, seen = tensors()["lq"], {}
    trunk = network.RRDB.RRDB_trunk
    hooks = [
        trunk[0].register_forward_pre_hook(lambda _, args: seen.update(head=args[0])),
        trunk[1].register_forward_hook(lambda _, args, out: seen.update(block=out)),
    ]
    encoding = network.RRDB(lq)
    for hook in hooks:
        hook.remove()
    check("enc.raw_color_map", raw_color_map(lq))
    check("enc.noise_map", noise_map(raw_color_map(lq)))
    check("enc.fea_head", seen["head"])
    check("enc.block_1", seen["block"])
    check("enc.color_map", encoding.color_map)
    for level, features in enumerate(encoding.conditions, start=1):
        check(f"cond.level{level}", features)
    check("reverse_mean.z", latent_mean(encoding.color_map))


@torch.no_grad()
@pytest.mark.parametrize("which", ["given", "mean"])
def test_decode(network: LLFlowNetwork, which: str) -> None:
    encoding, seen = network.RRDB(tensors()["lq"]), []
    z, logdet = tensors()[f"reverse_{which}.z"], torch.zeros(BATCH)
    flow = network.flowUpsamplerNet
    for layer, level in zip(reversed(flow.layers), reversed(flow.levels), strict=True):
        z, logdet = layer.inverse(z, encoding.conditions[level], logdet)
        if not list(layer.parameters()):
            seen.append(z)
    CHECKED.add(f"reverse_{which}.z")
    if which == "given":
        check("reverse_given.after_level3", seen[0])
        check("reverse_given.after_level2", seen[1])
    check(f"reverse_{which}.x", z)
    check(f"reverse_{which}.logdet", logdet)
    x, total = network.decode(tensors()[f"reverse_{which}.z"], encoding, torch.zeros(BATCH))
    assert torch.equal(x, z)
    assert total is not None
    assert torch.equal(total, logdet)


@torch.no_grad()
def test_encode_and_likelihood(network: LLFlowNetwork) -> None:
    lq, gt = tensors()["lq"], tensors()["gt"]
    bits, z, logdet = network.negative_log_likelihood(gt, lq)
    check("forward.z", z)
    check("forward.logdet", logdet)
    check("forward.nll_encoder_mean", bits)
    check("forward.nll_gt_mean", network(gt, lq, gt_mean=True))
    check("forward.gt_color_map", color_map_of(gt))
    x, conditions, squeezed = gt, network.RRDB(lq).conditions, []
    for layer, level in zip(network.flowUpsamplerNet.layers, network.flowUpsamplerNet.levels, strict=True):
        x, _ = layer(x, conditions[level])
        if not list(layer.parameters()):
            squeezed.append(x)
    check("forward.into_level2", squeezed[1])
    check("forward.into_level3", squeezed[2])


def test_gradients(network: LLFlowNetwork) -> None:
    network = copy.deepcopy(network)
    network(tensors()["gt"], tensors()["lq"]).mean().backward()
    golden = INFO["grad_l2"]
    names = dict(network.named_parameters())
    assert {name for name, value in golden["values"].items() if value is not None} == set(names)
    for name, parameter in names.items():
        assert parameter.grad is not None
        assert float(parameter.grad.norm()) == pytest.approx(golden["values"][name], rel=golden["rel_tolerance"]), name


def test_data_dependent_initialisation(network: LLFlowNetwork) -> None:
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, ActNorm):
            torch.nn.init.zeros_(module.bias)
            torch.nn.init.zeros_(module.logs)
    network.train()
    bits, _, logdet = network.negative_log_likelihood(tensors()["gt"], tensors()["lq"])
    check("actnorm_init.forward.nll_encoder_mean", bits)
    check("actnorm_init.forward.logdet", logdet)
    for name, parameter in network.named_parameters():
        if "actnorm" in name:
            check(f"actnorm_init.{name}", parameter)


def test_post_processing() -> None:
    x, gt = tensors()["reverse_mean.x"], tensors()["gt"]
    top, _, left, _ = PADDING
    cropped = x[:, :, top : top + 30, left : left + 43]
    check("post.unpaired_uint8", to_codes_truncated(cropped).permute(0, 2, 3, 1))
    gt_codes = (gt * 255.0).round().to(torch.uint8)
    aligned = to_codes_truncated(gt_mean_aligned(x, gt_codes))
    check("post.test_py_gt_mean_aligned_uint8", aligned.permute(0, 2, 3, 1))
    for sample, scalars in INFO["post_scalars_per_sample"].items():
        at = slice(int(sample), int(sample) + 1)
        assert float(x[at].mean()) == pytest.approx(scalars["mean_out"], abs=1e-5)
        with_mean = float(psnr(aligned[at], gt_codes[at]))
        assert with_mean == pytest.approx(scalars["psnr_test_py_gt_mean_aligned"], abs=1e-2)
        plain = float(psnr(to_codes_truncated(x[at]), gt_codes[at]))
        assert plain == pytest.approx(scalars["psnr_no_alignment_floor_uint8"], abs=1e-2)
        validated = float(training_validation(x[at], gt[at]))
        assert validated == pytest.approx(scalars["psnr_train_py_validation"], abs=1e-2)


@torch.inference_mode()
def test_fast_path(network: LLFlowNetwork) -> None:
    prepared = PreparedNetwork(network)
    encoding = prepared.encode(tensors()["lq"])
    close("enc.color_map", encoding.color_map)
    for level, features in enumerate(encoding.conditions, start=1):
        close(f"cond.level{level}", features)
    for which in ("given", "mean"):
        close(f"reverse_{which}.x", prepared.decode(tensors()[f"reverse_{which}.z"], encoding))
    both = prepared.decode(torch.cat([tensors()["reverse_mean.z"], tensors()["reverse_given.z"]]), encoding)
    close("reverse_mean.x", both[:BATCH])
    close("reverse_given.x", both[BATCH:])


def test_every_golden_tensor_was_compared(request: pytest.FixtureRequest) -> None:
    ran = {item.originalname for item in request.session.items if item.path == request.path}
    if len(ran) < 9:
        pytest.skip("only part of this file was run")
    assert set(INFO["tensors"]) == CHECKED
