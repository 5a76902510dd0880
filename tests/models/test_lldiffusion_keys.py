"""State dicts of every known layout: published, old, averaged, stripped, of other widths, and broken ones."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
import torch
from lldiffusion_states import golden_state, published_shapes, random_state
from safetensors.torch import save_file
from torch import Tensor

from streamlight.errors import ConfigError, ModelError
from streamlight.models import load
from streamlight.models.lldiffusion import ARCHITECTURE, LLDiffusion, LLDiffusionConfig, UNetConfig, deduce
from streamlight.models.lldiffusion.config import current_order, old_order
from streamlight.models.weights import Weights, compare, strip_prefixes

PUBLISHED = {
    "deg-unet-lol": dict(ch=64, deg_ch=32, blocks=2, fuse="cattn", features=(512, 512, 256)),
    "deg-unet-lol-v2-real": dict(ch=128, deg_ch=128, blocks=4, fuse="cat", features=(512, 512, 256, 256, 128, 128)),
    "deg-unet-lol-v2-sys": dict(ch=128, deg_ch=128, blocks=4, fuse="cat", features=(512, 512, 256, 256, 128, 128)),
}
PARAMETERS = {  # encoder, diff_unet, deg_unet
    "deg-unet-lol": (22_822_336, 29_972_599, 7_838_453),
    "deg-unet-lol-v2-real": (25_035_200, 184_296_067, 175_161_475),
}
SMALL = (32, 32, 32)


def plain(name: str = "lol_tiny") -> dict[str, Tensor]:
    return strip_prefixes(golden_state(name), name)


def opened(state: dict[str, Tensor], **keywords: object) -> LLDiffusion:
    model = ARCHITECTURE.build(Weights("test.pth", state), **keywords)
    assert isinstance(model, LLDiffusion)
    return model


def noise_of(model: LLDiffusion) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    low, latent = torch.rand(1, 3, 64, 64, generator=generator) * 0.2, torch.randn(1, 3, 64, 64, generator=generator)
    return next(model.trajectory(latent, model.condition(low))).detach()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes(name: str) -> None:
    shapes = {key.removeprefix("module."): shape for key, shape in published_shapes(name).items()}
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    want = PUBLISHED[name]
    shared = dict(ch_mult=(1, 1, 2, 2, 4, 4), num_res_blocks=want["blocks"], attn_levels=(2,), fuse_mode=want["fuse"])
    config = LLDiffusionConfig(
        encoder_ch=16,
        features=want["features"],
        dddm=UNetConfig(in_channels=9, ch=want["ch"], time=True, **shared),
        dgnet=UNetConfig(in_channels=3, ch=want["deg_ch"], time=False, **shared),
    )
    assert ARCHITECTURE.detect(state)
    assert deduce(state) == config
    assert config.dddm.attn_resolutions == (8,)
    assert ARCHITECTURE.published[name] == config
    with torch.device("meta"):
        network = LLDiffusion(config)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key, shape in wanted.items():
        assert shapes[key] == shape
    surplus = set(shapes) - set(wanted)
    assert all(any(re.match(pattern, key) for pattern in ARCHITECTURE.unused) for key in surplus), surplus
    if name in PARAMETERS:
        unused = [sum(torch.Size(shapes[key]).numel() for key in surplus if key.startswith(part)) for part in PARTS]
        have = [sum(item.numel() for item in network.get_submodule(part).parameters()) for part in PARTS]
        assert tuple(a + b for a, b in zip(have, unused, strict=True)) == PARAMETERS[name]


PARTS = ("encoder", "diff_unet", "deg_unet")


def test_a_frame_goes_through_the_published_lol_network(tmp_path: Path) -> None:
    save_file(random_state(published_shapes("deg-unet-lol")), tmp_path / "lol.safetensors")
    model = load(tmp_path / "lol.safetensors", steps=1, t_start=100)
    bright = model.sample(torch.rand(1, 3, 50, 41), generator=torch.Generator().manual_seed(0))
    assert bright.shape == (1, 1, 3, 50, 41)
    assert bright.isfinite().all()
    assert bright.std() > 0.01
    assert model.card.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow  # 384 million weights
@pytest.mark.parametrize("name", ["deg-unet-lol-v2-real", "deg-unet-lol-v2-sys"])
def test_a_frame_goes_through_the_published_v2_network(name: str) -> None:
    state = strip_prefixes(random_state(published_shapes(name)), name)
    model = opened(state, steps=1, t_start=100, dgnet=False)
    bright = model.sample(torch.rand(1, 3, 64, 33), generator=torch.Generator().manual_seed(0))
    assert bright.shape == (1, 1, 3, 64, 33)
    assert bright.isfinite().all()


def test_the_old_decoder_order_both_ways() -> None:
    current = plain()
    old = old_order(current)
    assert set(old) != set(current)
    assert "diff_unet.up.5.upsample.conv.weight" in old
    assert "diff_unet.up.0.upsample.conv.weight" not in old
    assert old["deg_unet.up.4.block.0.conv1.weight"] is current["deg_unet.up.1.block.0.conv1.weight"]
    back = current_order(old)
    assert set(back) == set(current)
    assert all(back[name] is current[name] for name in current)
    assert all(value is current[name] for name, value in current_order(current).items())
    assert old_order(old).keys() == old.keys()


def test_an_old_file_gives_the_same_noise(tmp_path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in old_order(plain()).items()}, tmp_path / "old.pth")
    assert torch.equal(noise_of(load(tmp_path / "old.pth")), noise_of(opened(plain())))


def test_a_training_checkpoint_raw_and_averaged(tmp_path: Path) -> None:
    """The layout of the published files: raw weights, an average without the spectral norm's vectors, and records."""
    state = golden_state("lol_tiny")
    average = {
        key.removeprefix("module."): value * 0.9
        for key, value in state.items()
        if not key.endswith(("weight_u", "weight_v"))
    }
    checkpoint = {
        "epoch": 356,
        "step": 0,
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": []},
        "ema_helper": average,
        "params": argparse.Namespace(seed=0),
        "config": argparse.Namespace(model=argparse.Namespace(ch=32)),
    }
    torch.save(checkpoint, tmp_path / "best.pth")
    raw, averaged = load(tmp_path / "best.pth"), load(tmp_path / "best.pth", ema=True)
    assert torch.equal(noise_of(raw), noise_of(opened(plain())))
    mixed = {**plain(), **average}
    assert torch.equal(noise_of(averaged), noise_of(opened(mixed)))
    assert not torch.equal(noise_of(raw), noise_of(averaged))
    assert raw.card.revision != averaged.card.revision


def test_saved_and_loaded_again_gives_identical_output(tmp_path: Path) -> None:
    model = opened(plain())
    model.save(tmp_path / "own.safetensors")
    assert torch.equal(noise_of(load(tmp_path / "own.safetensors")), noise_of(model))


def test_without_dgnet() -> None:
    full, lean = opened(plain()), opened(plain(), dgnet=False)
    assert full.deg_unet is not None
    assert lean.deg_unet is None
    assert lean.card.parameters < full.card.parameters
    assert torch.equal(noise_of(full), noise_of(lean))
    with pytest.raises(ModelError, match="no DGNET"):
        lean(*(torch.zeros(1, 3, 64, 64),) * 2, torch.zeros(1), high=torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("features", [(32,), (64, 32), (32, 64, 96, 32, 32), (32, 32, 64, 32, 32, 64)])
@pytest.mark.parametrize("fuse", ["cat", "cattn"])
def test_other_widths_and_depths(features: tuple[int, ...], fuse: str) -> None:
    config = LLDiffusionConfig(
        encoder_ch=2,
        features=features,
        dddm=UNetConfig(9, 32, (1, 2, 1, 3, 1, 2), 2, attn_levels=(1, 4), fuse_mode=fuse, time=True),  # type: ignore[arg-type]
        dgnet=UNetConfig(3, 64, (1, 1, 1, 1, 1, 1), 1, attn_levels=(), fuse_mode=fuse),  # type: ignore[arg-type]
    )
    network = LLDiffusion(config).eval()
    assert deduce(network.state_dict()) == config
    assert noise_of(network).isfinite().all()


def test_groups_are_a_setting_that_files_carry(tmp_path: Path) -> None:
    published, coarse = opened(plain()), opened(plain(), norm_groups=8)
    assert published.card.revision != coarse.card.revision
    assert not torch.allclose(noise_of(published), noise_of(coarse), atol=1e-3)
    coarse.save(tmp_path / "own.safetensors")
    again = load(tmp_path / "own.safetensors")
    assert isinstance(again, LLDiffusion)
    assert torch.equal(noise_of(again), noise_of(coarse))
    for wrong in (0, 5, 64):
        with pytest.raises(ConfigError, match=f"norm_groups must divide 32.*got {wrong}"):
            opened(plain(), norm_groups=wrong)


def test_what_is_missing_surplus_or_misshapen_is_named() -> None:
    state = plain()
    gone = state.pop("diff_unet.up.2.block.1.conv2.weight")
    state["diff_unet.up.2.block.7.conv2.weight"] = gone
    with torch.device("meta"):
        network = ARCHITECTURE.network(deduce(state))
    fit = compare(network, state, unused=ARCHITECTURE.unused)
    assert fit.missing == ("diff_unet.up.2.block.1.conv2.weight",)
    assert fit.surplus == ("diff_unet.up.2.block.7.conv2.weight",)
    with pytest.raises(ModelError, match=r"test\.pth.*diff_unet\.up\.2\.block\.1\.conv2\.weight"):
        opened(state)
    with pytest.raises(ModelError, match=r"diff_unet\.temb\.dense\.1\.weight is 127.128, expected 128.128"):
        opened({**plain(), "diff_unet.temb.dense.1.weight": torch.zeros(127, 128)})
    with pytest.raises(ModelError, match=r"NaN or infinity: encoder\.encoder\.res_1"):
        opened({**plain(), "encoder.encoder.res_1.conv_block.1.bias": torch.full((16,), torch.nan)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diff_unet.conv_in.weight": None}, r"diff_unet\.conv_in\.weight is missing"),
        ({"diff_unet.conv_out.weight": None}, r"diff_unet\.conv_out\.weight is missing"),
        ({"diff_unet.conv_in.weight": torch.zeros(33, 9, 3, 3)}, "multiples"),
        ({"diff_unet.conv_in.weight": torch.zeros(3)}, r"diff_unet\.conv_in\.weight"),
        ({"diff_unet.up.0.block.0.norm1.weight": torch.zeros(32)}, "added skips"),
        ({"encoder.encoder.attn_0.q.weight": torch.zeros(2, 2, 1, 1)}, "attention in the encoder"),
        ({"diff_unet.down.6.block.0.conv1.weight": torch.zeros(32, 32, 3, 3)}, "6 levels are expected, got 7"),
    ],
)
def test_networks_of_no_known_shape(change: dict[str, Tensor | None], message: str) -> None:
    state = {name: value for name, value in {**plain(), **change}.items() if value is not None}
    with pytest.raises(ModelError, match=message):
        deduce(state)


def test_other_state_dicts_are_not_taken_for_lldiffusion() -> None:
    assert not ARCHITECTURE.detect({})
    assert not ARCHITECTURE.detect({"conv_in.weight": torch.zeros(64, 3, 3, 3)})
