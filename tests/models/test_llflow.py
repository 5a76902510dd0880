"""LLFlow as users meet it: files, sizes, samples, precision, bad input, and the fast path against the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from llflow_golden import KEY_LISTS, WEIGHTS, key_list, nchw, random_state, tensors
from safetensors.torch import save_file
from torch import Tensor

from streamlight import load
from streamlight.errors import ModelError
from streamlight.models import check
from streamlight.models.llflow import LLFlow, LLFlowConfig, LLFlowNetwork
from streamlight.models.llflow.config import PUBLISHED, UNUSED, deduce
from streamlight.models.llflow.network import latent_mean
from streamlight.models.llflow.preprocess import (
    centred_padding,
    equalization_table,
    equalize,
    network_input,
    pad_symmetric,
)
from streamlight.models.llflow.protocols import to_codes_truncated
from streamlight.models.nn.rrdb import DenseBlock
from streamlight.models.nn.strips import Kernel, dense_block
from streamlight.models.protocol import GenerativeModel

SMALL = LLFlowConfig(nf=8, nb=5, growth=4, taps=(1, 3), steps=(3, 2, 1), plain_steps=1, hidden=12)


def state_of(config: LLFlowConfig, seed: int = 0) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = LLFlowNetwork(config)
    return random_state({name: tuple(value.shape) for name, value in network.state_dict().items()}, seed)


def dark(height: int, width: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    codes = np.random.default_rng(seed).integers(0, 60, (batch, 3, height, width))
    return torch.from_numpy(codes.astype(np.float32) / 255.0)


@pytest.fixture(scope="module")
def model() -> LLFlow:
    opened = load(WEIGHTS)
    assert isinstance(opened, LLFlow)
    return opened


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    save_file(state_of(SMALL), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


# --- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KEY_LISTS, ids=lambda path: path.stem.removeprefix("llflow_keys_"))
def test_published_key_lists(path: Path, tmp_path: Path) -> None:
    """Random weights under the published names load strictly, are recognised, and a frame goes through."""
    name = path.stem.removeprefix("llflow_keys_")
    shapes = key_list(path)
    declared = path.read_text(encoding="utf-8").split("\n")[0]
    assert f"{len(shapes)} tensors" in declared
    torch.save({f"module.{key}": value for key, value in random_state(shapes).items()}, tmp_path / "w.pth")
    found = check(tmp_path / "w.pth")
    assert found.usable
    assert found.architecture == "llflow"
    assert name in found.published
    assert found.configuration["nf"] == PUBLISHED[name].nf
    assert deduce({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}) == PUBLISHED[name]
    assert f"{found.parameters} parameters" in declared
    unused = [line.split("\t")[0] for line in path.read_text().split("\n") if line.endswith("unused")]
    assert sorted(found.fit.unused) == sorted(unused)
    assert found.live == {64: 37_677_395, 32: 4_967_635}[PUBLISHED[name].nf]
    opened = load(tmp_path / "w.pth")
    bright = opened.sample(dark(9, 14))
    assert bright.shape == (1, 1, 3, 9, 14)
    assert bool(torch.isfinite(bright).all())


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        LLFlowConfig(nf=4, nb=1, growth=3, taps=(), steps=(1, 1, 1), plain_steps=0, hidden=5),
        LLFlowConfig(nf=6, nb=2, growth=2, taps=(0, 1), steps=(2, 1, 4), plain_steps=3, hidden=7),
    ],
)
def test_any_width_and_depth_is_deduced(config: LLFlowConfig, tmp_path: Path) -> None:
    save_file(state_of(config), tmp_path / "w.safetensors")
    opened = load(tmp_path / "w.safetensors", taps=config.taps)
    assert opened.config == config
    assert opened.sample(dark(16, 8)).shape == (1, 1, 3, 16, 8)


def test_tapped_blocks_change_the_picture_and_are_saved(small_file: Path, tmp_path: Path) -> None:
    usual, other = load(small_file), load(small_file, taps=(0, 4))
    low = dark(16, 16)
    assert not torch.allclose(usual.sample(low), other.sample(low))
    assert usual.card.revision != other.card.revision
    other.save(tmp_path / "other.safetensors")
    again = load(tmp_path / "other.safetensors")
    assert again.config.taps == (0, 4)
    assert torch.equal(again.sample(low), other.sample(low))


@pytest.mark.parametrize("taps", [(1,), (1, 1), (0, 9), (-1, 1)])
def test_impossible_taps(small_file: Path, taps: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"small\.safetensors: taps must"):
        load(small_file, taps=taps)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"RRDB.trunk_conv.bias": None}, r"1 tensors missing: RRDB\.trunk_conv\.bias"),
        ({"RRDB.extra": (1,)}, r"not part of this architecture: RRDB\.extra"),
        ({"RRDB.trunk_conv.bias": (9,)}, r"RRDB\.trunk_conv\.bias is 9, expected 8"),
        ({"RRDB.conv_first.weight": (8, 9, 3, 3)}, r"RRDB\.conv_first\.weight: reads 9 channels"),
        ({"RRDB.conv_first.weight": (8,)}, "not one|no known architecture"),
        ({"flowUpsamplerNet.layers.3.affine.fFeatures.0.weight": (12, 25, 3, 3)}, "not a multiple|25"),
        ({"RRDB.RRDB_trunk.2.RDB1.conv1.weight": None}, r"blocks 0, 1, 2.*found \[0, 1, 3, 4\]"),
        ({"flowUpsamplerNet.layers.2.actnorm.bias": None}, "3 levels"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    state = state_of(SMALL)
    for name, shape in change.items():
        if shape is None:
            del state[name]
        else:
            state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=text) as caught:
        load(tmp_path / "w.pth")
    assert "w.pth" in str(caught.value)


def test_weights_that_cannot_be_inverted(tmp_path: Path) -> None:
    state = state_of(SMALL)
    state["flowUpsamplerNet.layers.2.invconv.weight"][:] = 1.0
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="singular"):
        load(tmp_path / "w.safetensors").sample(dark(8, 8))


# --- frames ----------------------------------------------------------------------------------------------------


def test_the_model_offers_the_protocol(model: LLFlow) -> None:
    assert isinstance(model, GenerativeModel)
    assert model.card.stochastic
    assert model.card.parameters == sum(parameter.numel() for parameter in model.network.parameters())
    json.dumps(model.card.to_dict())


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (8, 8), (9, 17), (30, 43), (24, 64)])
@pytest.mark.parametrize("padding", ["least", "official"])
def test_any_size_comes_back_as_it_went_in(size: tuple[int, int], padding: str) -> None:
    low = dark(*size)
    opened = load(WEIGHTS, padding=padding)
    condition = opened.condition(low)
    bright = opened.decode(opened.prior(condition).mean, condition)
    assert bright.shape == low.shape
    assert bright.dtype == torch.float32
    assert bool(torch.isfinite(bright).all())
    assert float(bright.min()) >= 0.0
    assert float(bright.max()) <= 1.0


def test_official_padding_gives_the_official_codes() -> None:
    opened = load(WEIGHTS, padding="official")
    bright = opened.sample(nchw(tensors()["raw_low_uint8"]))[0]
    expected = nchw(tensors()["post.unpaired_uint8"])
    assert int((to_codes_truncated(bright).int() - expected.int()).abs().max()) <= 1


def test_padding_is_cropped_at_the_right_place(model: LLFlow) -> None:
    """A frame that is mirrored by hand to a multiple of 8 gives the same picture around the same centre."""
    low = dark(13, 22)
    top, bottom, left, right = centred_padding(13, 22, 8)
    assert (top, bottom, left, right) == (1, 2, 1, 1)
    by_hand = model.condition(pad_symmetric(low, (top, bottom, left, right)), statistics=model.statistics(low))
    whole = model.decode(model.prior(by_hand).mean, by_hand)
    torch.testing.assert_close(model.sample(low)[0], whole[:, :, top:-bottom, left:-right])


def test_batches_and_types_of_input(model: LLFlow) -> None:
    low = dark(16, 24, batch=3)
    together = model.sample(low)[0]
    for index in range(3):
        torch.testing.assert_close(together[index], model.sample(low[index : index + 1])[0, 0], atol=1e-5, rtol=0)
    codes = (low * 255.0).round().to(torch.uint8)
    torch.testing.assert_close(model.sample(codes), model.sample(low), atol=1e-5, rtol=0)


def test_strength(model: LLFlow) -> None:
    low = dark(8, 16)
    condition = model.condition(low)
    mean = model.prior(condition).mean
    full = model.decode(mean, condition)
    assert torch.equal(model.decode(mean, condition, strength=0.0), low)
    torch.testing.assert_close(model.decode(mean, condition, strength=0.25), 0.75 * low + 0.25 * full)


@pytest.mark.parametrize(
    "low", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 0, 8), torch.zeros(1, 3, 8, 8).int()]
)
def test_input_of_another_kind(model: LLFlow, low: Tensor) -> None:
    with pytest.raises(ModelError, match="llflow wants"):
        model.condition(low)


def test_a_latent_of_another_frame(model: LLFlow) -> None:
    condition = model.condition(dark(16, 16))
    with pytest.raises(ModelError, match=r"latent of shape \(1, 192, 1, 1\) does not fit 1 pictures of 16x16"):
        model.decode(torch.zeros(1, 192, 1, 1), condition)


def test_frames_of_one_value(model: LLFlow) -> None:
    for value in (0.0, 1.0, 0.5):
        assert bool(torch.isfinite(model.sample(torch.full((1, 3, 8, 8), value))).all())


# --- what the original promises --------------------------------------------------------------------------------


def test_samples_share_the_condition_and_follow_the_seed(model: LLFlow) -> None:
    low = dark(12, 20, batch=2)

    def draw(seed: int, count: int) -> Tensor:
        return model.sample(low, samples=count, temperature=0.7, generator=torch.Generator().manual_seed(seed))

    pictures = draw(5, 3)
    assert pictures.shape == (3, 2, 3, 12, 20)
    assert torch.equal(pictures, draw(5, 3))
    assert not torch.equal(pictures, draw(6, 3))
    assert not torch.allclose(pictures[0], pictures[1])
    torch.testing.assert_close(draw(5, 1)[0], pictures[0], atol=1e-5, rtol=0)  # the same noise comes first
    condition = model.condition(low)
    mean = model.prior(condition).mean
    noise = torch.randn(6, *mean.shape[1:], generator=torch.Generator().manual_seed(5))
    alone = model.decode(mean + 0.7 * noise[2:4], condition)
    torch.testing.assert_close(alone, pictures[1], atol=1e-5, rtol=0)


def test_no_temperature_is_the_published_result(model: LLFlow) -> None:
    pictures = model.sample(dark(8, 8), samples=2)
    assert torch.equal(pictures[0], pictures[1])


def test_brightness_moves_the_latent() -> None:
    low = dark(8, 8)
    plain, moved = load(WEIGHTS), load(WEIGHTS, brightness=0.5)
    difference = moved.prior(moved.condition(low)).mean - plain.prior(plain.condition(low)).mean
    torch.testing.assert_close(difference, torch.full_like(difference, 0.5))
    assert not torch.allclose(moved.sample(low), plain.sample(low))
    assert moved.card.revision != plain.card.revision


@pytest.mark.parametrize(
    "keywords",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"brightness": float("inf")},
        {"padding": "x"},
        {"dtype": "int8"},
    ],
)
def test_settings_out_of_range(keywords: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        load(WEIGHTS, **keywords)


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-5), (torch.float64, 1e-11)])
def test_encoding_then_decoding_gives_the_picture_back(dtype: torch.dtype, atol: float) -> None:
    network = LLFlowNetwork(SMALL).eval()
    network.load_state_dict(state_of(SMALL))
    network = network.to(dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 16, 24, generator=generator).to(dtype)
    lq = torch.rand(2, 6, 16, 24, generator=generator).to(dtype)
    with torch.no_grad():
        encoding, start = network.RRDB(lq), torch.zeros(2, dtype=dtype)
        z, logdet = network.flowUpsamplerNet.encode(x, encoding.conditions, start)
        back, zero = network.decode(z, encoding, logdet)
    assert float((back - x).abs().max()) <= atol
    assert zero is not None
    assert float(zero.abs().max()) <= 1e6 * atol


@pytest.mark.parametrize("size", [(8, 8), (16, 200), (264, 16)])
def test_fast_path_is_the_reference(size: tuple[int, int]) -> None:
    network = LLFlowNetwork(SMALL).eval()
    network.load_state_dict(state_of(SMALL))
    opened = LLFlow(network, SMALL)
    low = dark(*size, batch=2)
    condition = opened.condition(low)
    with torch.no_grad():
        encoding = network.RRDB(network_input(low))
        expected, _ = network.decode(latent_mean(encoding.color_map), encoding)
    found = opened.decode(opened.prior(condition).mean, condition)
    torch.testing.assert_close(found, expected.clamp(0.0, 1.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dtype", "decibels"), [("bfloat16", 40.0), ("float16", 55.0)])
def test_short_types_stay_near_float32(dtype: str, decibels: float) -> None:
    low = dark(64, 96)
    full = load(WEIGHTS).sample(low)
    short = load(WEIGHTS, dtype=dtype).sample(low)
    assert short.dtype == torch.float32
    assert float(-10.0 * (short - full).square().mean().log10()) >= decibels


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_small_published_network_in_short_types(dtype: str) -> None:
    """The bound that the card's precisions stand for: 40 dB against the float32 reference."""
    config = PUBLISHED["LOL_smallNet"]
    network = LLFlowNetwork(config).eval()
    network.load_state_dict(state_of(config))
    low = dark(48, 64)
    with torch.no_grad():
        encoding = network.RRDB(network_input(low))
        expected, _ = network.decode(latent_mean(encoding.color_map), encoding)
    found = LLFlow(network, config, dtype=dtype).sample(low)[0]
    assert float(expected.std()) > 0.05  # not a flat picture
    error = float((found - expected.clamp(0.0, 1.0)).square().mean())
    assert error <= {"bfloat16": 1e-4, "float32": 1e-10}[dtype]


@pytest.mark.parametrize("height", [1, 2, 5, 6, 11, 12, 40])
@pytest.mark.parametrize("rows", [6, 7, 100])
def test_dense_block_in_strips(height: int, rows: int) -> None:
    torch.manual_seed(height)
    block = DenseBlock(8, 4)
    x = torch.randn(2, 8, height, 9)
    with torch.no_grad():
        kernels = [Kernel.of(conv, torch.float32) for conv in block.convolutions()]
        found = dense_block(
            x.contiguous(memory_format=torch.channels_last), kernels, slope=0.2, residual=0.2, rows=rows
        )
        torch.testing.assert_close(found, block(x), atol=1e-6, rtol=0)


def codes_with(kind: str, generator: np.random.Generator) -> np.ndarray:
    height, width = generator.integers(1, 60, 2)
    low, high = sorted(generator.integers(0, 256, 2))
    if kind == "flat":
        return np.full((height, width), low, np.uint8)
    if kind == "two":
        return generator.choice(np.array([low, high], np.uint8), (height, width))
    return generator.integers(low, high + 1, (height, width)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["flat", "two", "range"])
def test_equalisation_is_that_of_opencv(kind: str) -> None:
    generator = np.random.default_rng(1)
    for _ in range(100):
        codes = codes_with(kind, generator)
        found = equalize(torch.from_numpy(codes)[None, None]) * 255.0
        assert np.array_equal(found[0, 0].round().numpy().astype(np.uint8), cv2.equalizeHist(codes))


def test_equalisation_of_a_large_dark_frame() -> None:
    codes = (np.random.default_rng(2).gamma(2.0, 6.0, (1080, 1920)).clip(0, 255)).astype(np.uint8)
    found = equalize(torch.from_numpy(codes)[None, None])[0, 0]
    assert np.array_equal((found * 255.0).round().numpy().astype(np.uint8), cv2.equalizeHist(codes))


def test_equalisation_is_per_picture_and_channel() -> None:
    codes = torch.randint(0, 99, (2, 3, 10, 10), dtype=torch.uint8)
    table = equalization_table(codes)
    torch.testing.assert_close(table[1, 2], equalization_table(codes[1:, 2:])[0, 0])


def test_mirroring_is_numpy_s_symmetric() -> None:
    picture = torch.arange(6.0).reshape(1, 1, 2, 3)
    found = pad_symmetric(picture, (5, 3, 7, 1))
    assert np.array_equal(found[0, 0].numpy(), np.pad(picture[0, 0].numpy(), ((5, 3), (7, 1)), mode="symmetric"))


def test_unused_names_are_the_ones_of_the_specification() -> None:
    assert len(UNUSED) == 2
