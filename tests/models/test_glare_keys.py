"""The published key lists of GLARE: random tensors of those names and shapes load strictly; a frame goes through."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from streamlight.errors import ModelError
from streamlight.models.glare import ARCHITECTURE, VQGAN, AutoencoderConfig, FlowConfig, Glare, GlareConfig
from streamlight.models.glare.network import GlareNetwork, build_network
from streamlight.models.weights import Weights, assemble, compare

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "glare"
STAGE3 = "glare_keys_stage3.txt"
STAGE2 = "glare_keys_stage2.txt"
STAGE1 = "glare_keys_vqgan.txt"

PUBLISHED = {
    STAGE3: GlareConfig(3, AutoencoderConfig(128, (1, 2, 4), 2, (2,), 3, 32), FlowConfig(3, 64, 64, 2, 2, 12), 0),
    STAGE2: GlareConfig(2, AutoencoderConfig(128, (1, 2, 4), 2, (2,), 3, 32), FlowConfig(3, 64, 64, 2, 2, 12), 0),
    STAGE1: GlareConfig(1, AutoencoderConfig(128, (1, 2, 4), 2, (2,), 3, 32), None, 8192),
}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    found = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        key, shape, dtype = line.split("\t")
        assert dtype == "float32"
        found[key] = tuple(int(number) for number in re.findall(r"\d+", shape))
    return found


def meta(name: str) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes(name).items()}


def randomised(name: str) -> dict[str, Tensor]:
    """Random weights that keep the scale of what passes through them."""
    generator = torch.Generator().manual_seed(7)
    state = {}
    for key, shape in shapes(name).items():
        spread = 1.0 / math.sqrt(math.prod(shape[1:])) if len(shape) == 4 and shape[0] > 1 else 0.05
        if ".affine." in key and ".4." in key:
            spread *= 0.1  # couplings near their start, so that 24 inverses keep the scale
        tensor = torch.randn(shape, generator=generator) * spread
        if key.endswith("invconv.weight"):
            tensor = torch.linalg.qr(torch.randn(shape, generator=generator))[0]
        elif ".norm" in key and key.endswith("weight"):
            tensor = tensor + 1.0
        state[key] = tensor
    return state


@pytest.fixture(scope="module")
def vqgan_inside() -> dict[str, Tensor]:
    wanted = ("decoder.", "quantize.", "post_quant_conv.")
    return {f"vqgan.{key}": value for key, value in randomised(STAGE1).items() if key.startswith(wanted)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configuration_and_strict_fit(name: str) -> None:
    state = meta(name)
    assert ARCHITECTURE.detect(state)
    config = ARCHITECTURE.deduce(state)
    assert config == PUBLISHED[name]
    assert config in ARCHITECTURE.published.values()
    with torch.device("meta"):
        network = build_network(config)
    filled = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()}
    fit = compare(network, filled, unused=ARCHITECTURE.unused)
    assert fit.complete, fit.problems()


@pytest.mark.parametrize(
    ("name", "total", "live"),
    # Counts of the published parts, without what is stored and never used.
    [(STAGE3, 71_715_259, 65_275_704), (STAGE2, 24_442_583 + 3_237_636, 24_442_583 + 2_131_332)],
)
def test_parameter_counts(name: str, total: int, live: int) -> None:
    state = meta(name)
    assert sum(tensor.numel() for tensor in state.values()) == total
    with torch.device("meta"):
        network = build_network(ARCHITECTURE.deduce(state))
    assert sum(parameter.numel() for parameter in network.parameters()) == live


@pytest.mark.parametrize("name", [STAGE3, STAGE2])
def test_a_frame_goes_through(name: str, vqgan_inside: dict[str, Tensor]) -> None:
    model = ARCHITECTURE.build(Weights(name, {**randomised(name), **vqgan_inside}))
    assert isinstance(model, Glare)
    assert model.card.parameters > 60e6
    low = torch.rand(1, 3, 13, 18, generator=torch.Generator().manual_seed(1)) * 0.2
    bright = model.sample(low)[0]
    assert bright.shape == low.shape
    assert torch.isfinite(bright).all()
    assert float(bright.std()) > 0


def test_work_at_600x400_is_that_of_the_published_network() -> None:
    with torch.device("meta"):
        model = Glare(GlareConfig(codes=8192)).eval()
        low, latent = torch.rand(1, 3, 400, 600), torch.rand(1, 3, 100, 150)
    prior, decoder = model.vqgan, model.deformable_decoder
    assert prior is not None
    assert decoder is not None
    with FlopCounterMode(display=False) as counter:
        conditioning = model.encode(low)
        parts = [counter.get_total_flops()]
        normal = prior.decoder.features(latent)
        parts.append(counter.get_total_flops())
        decoder.fuse(latent, normal, conditioning.taps)
        parts.append(counter.get_total_flops())
    gmacs = [(after - before) / 2e9 for before, after in zip([0, *parts], parts, strict=False)]
    assert gmacs == pytest.approx([1292, 2133, 2391], abs=0.6)

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        prior.decoder.features(latent)
    assert counter.get_total_flops() / 2e9 == pytest.approx(2133 - 2 * 5 / 9 * 141.6 + 2.4, abs=4)


def test_a_frame_goes_through_the_vqgan() -> None:
    state = randomised(STAGE1)
    config = ARCHITECTURE.deduce(state)
    model = assemble(
        lambda: VQGAN(config.autoencoder, config.codes), Weights(STAGE1, state), unused=ARCHITECTURE.unused
    )
    with torch.no_grad():
        output = model(torch.rand(1, 3, 16, 12))
    assert output.image.shape == (1, 3, 16, 12)
    assert output.latent.shape == (1, 3, 4, 3)
    assert torch.isfinite(output.image).all()


@pytest.mark.parametrize(
    "shape",
    [
        GlareConfig(3, AutoencoderConfig(8, (1, 2), 1, (), 4, 4), FlowConfig(4, 6, 5, 1, 0, 2), 16),
        GlareConfig(3, AutoencoderConfig(32, (1, 1, 2, 2), 3, (1, 3), 3, 32), FlowConfig(3, 8, 4, 3, 1, 2), 16),
        GlareConfig(2, AutoencoderConfig(16, (1, 3, 3), 2, (2,), 3, 8), FlowConfig(3, 8, 4, 2, 3, 1), 16),
    ],
    ids=["two levels", "four levels", "stage II"],
)
def test_any_other_width_and_depth(shape: GlareConfig) -> None:
    made = GlareNetwork(shape)
    state = {key: value.clone() for key, value in made.state_dict().items()}
    assert ARCHITECTURE.deduce(state) == shape
    model = ARCHITECTURE.build(Weights("made", state))
    low = torch.rand(2, 3, 19, 23)
    bright = model.sample(low)[0]
    assert bright.shape == low.shape
    assert torch.isfinite(bright).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("RRDB.encoder.conv_in.weight"), "RRDB.encoder.conv_in.weight: missing"),
        (lambda state: state.pop("RRDB.cond_conv.0.weight"), "RRDB.cond_conv.0.weight: missing"),
        (lambda state: state.pop("flowUpsamplerNet.layers.5.affine.fFeatures.0.weight"), "do not repeat"),
        (
            lambda state: state.update({"RRDB.encoder.down.1.block.0.conv1.weight": torch.empty(200, 128, 3, 3)}),
            "RRDB.encoder.down.1.block.0.conv1.weight: 200 output channels",
        ),
        (lambda state: state.update({"RRDB.encoder.conv_in.weight": torch.empty(128)}), "has 1 dimensions, expected 4"),
    ],
)
def test_what_cannot_be_deduced_is_named(change, message: str) -> None:
    state = meta(STAGE3)
    change(state)
    assert ARCHITECTURE.detect(state)
    with pytest.raises(ModelError, match=message):
        ARCHITECTURE.deduce(state)
