"""Hyper-parameters of an LLDiffusion network, and how they are read off a state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor

from streamlight.errors import ConfigError, ModelError

LEVELS: Final = 6
"""Levels of both U-Nets; the encoder halves the picture five times, so no other number fits its features."""

GROUPS: Final = 32
"""Groups of every group normalisation in the published networks; widths are multiples of it."""


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Shape of one U-Net.

    Attributes:
        in_channels: Channels of its input: 9 (x_t, y, C(y)) for the DDDM, 3 for DGNET.
        ch: Width of the finest level.
        ch_mult: Width of each level over ``ch``, fine to coarse.
        num_res_blocks: ResBlocks per level on the way down; one more on the way up.
        attn_levels: Levels with an attention block behind every ResBlock, 0 the finest.
        out_ch: Channels of its output.
        fuse_mode: How features are injected: ``"cat"``, or ``"cattn"`` with a channel gate behind it.
        time: Whether the ResBlocks are told the time step.
    """

    in_channels: int
    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_levels: tuple[int, ...] = (2,)
    out_ch: int = 3
    fuse_mode: Literal["cat", "cattn"] = "cat"
    time: bool = False

    @property
    def attn_resolutions(self) -> tuple[int, ...]:
        """The published name of :attr:`attn_levels`: 2^(5 - level)."""
        return tuple(2 ** (LEVELS - 1 - level) for level in self.attn_levels)


@dataclass(frozen=True, slots=True)
class LLDiffusionConfig:
    """Shape of a whole LLDiffusion network.

    Attributes:
        encoder_ch: Width e of the latent map encoder; it ends with 32·e channels.
        features: Channels of the injected degradation features, coarse (1/16) to fine.
        dddm: The noise-predicting U-Net (``diff_unet``).
        dgnet: The degradation generation network (``deg_unet``); None in files stripped for inference.
        norm_groups: Groups of every normalisation, which shapes do not tell. In a network no wider than its groups each
            channel loses its mean, and with it most of what is known of brightness and colour.
    """

    encoder_ch: int
    features: tuple[int, ...]
    dddm: UNetConfig
    dgnet: UNetConfig | None = None
    norm_groups: int = GROUPS

    @property
    def num_deg_fusion(self) -> int:
        """Number of injected features."""
        return len(self.features)


def is_lldiffusion(state: Mapping[str, Tensor]) -> bool:
    """Whether ``state`` (names without ``module.``) is an LLDiffusion network, by three names that only it has."""
    names = (
        "encoder.encoder.layer1.0.weight_orig",
        "encoder.upsample.convs.0.2.weight_orig",
        "diff_unet.conv_in.weight",
    )
    return all(name in state for name in names)


def deduce(state: Mapping[str, Tensor]) -> LLDiffusionConfig:
    """Read every hyper-parameter off names and shapes (decoder levels coarse to fine, names without ``module.``).

    Args:
        state: State dict, as :func:`current_order` leaves it.

    Raises:
        ModelError: A tensor is missing or has a shape that no LLDiffusion network has.
    """
    for name, meaning in (
        ("encoder.encoder.attn_0", "attention in the encoder"),
        ("encoder.upsample.convs.0.3.weight_orig", "attention in the prior upsampler"),
    ):
        if any(key.startswith(name) for key in state):
            raise ModelError(f"{name}: {meaning} is in no published network and is not supported")
    encoder_ch = _kernel(state, "encoder.encoder.layer1.0.weight_orig")[0]
    features: list[int] = []
    while f"encoder.upsample.convs.{len(features)}.2.weight_orig" in state:
        features.append(_kernel(state, f"encoder.upsample.convs.{len(features)}.2.weight_orig")[0])
    if not 1 <= len(features) <= LEVELS:
        raise ModelError(f"encoder.upsample.convs: 1 to {LEVELS} stages are expected, got {len(features)}")
    dgnet = _unet(state, "deg_unet") if "deg_unet.conv_in.weight" in state else None
    return LLDiffusionConfig(encoder_ch, tuple(features), _unet(state, "diff_unet"), dgnet)


def check_groups(norm_groups: int) -> None:
    """See that all widths can be normalised in so many groups.

    Raises:
        ConfigError: They cannot.
    """
    if norm_groups < 1 or GROUPS % norm_groups:
        raise ConfigError(f"norm_groups must divide {GROUPS}, of which all widths are multiples, got {norm_groups}")


def current_order(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the decoder levels of old files, stored fine to coarse, into today's order, coarse to fine.

    Today ``up.0`` has an upsampling convolution and ``up.5`` has none; in old files it is the other way round. A
    state dict in today's order comes back as it is.
    """
    return _turned(state, old=True)


def old_order(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`current_order`: decoder levels stored fine to coarse."""
    return _turned(state, old=False)


_UP: Final = re.compile(r"^((?:diff|deg)_unet)\.up\.(\d+)\.(.+)$")


def _turned(state: Mapping[str, Tensor], *, old: bool) -> dict[str, Tensor]:
    last = {name: LEVELS - 1 for name in ("diff_unet", "deg_unet")}
    turn = {
        name: (f"{name}.up.0.upsample.conv.weight" not in state and f"{name}.up.{top}.upsample.conv.weight" in state)
        == old
        for name, top in last.items()
    }

    def rename(key: str) -> str:
        match = _UP.match(key)
        if match is None or not turn[match[1]]:
            return key
        return f"{match[1]}.up.{last[match[1]] - int(match[2])}.{match[3]}"

    return {rename(key): value for key, value in state.items()}


def _unet(state: Mapping[str, Tensor], prefix: str) -> UNetConfig:
    ch, in_channels = _kernel(state, f"{prefix}.conv_in.weight")
    levels = _count(state, rf"{prefix}\.down\.(\d+)\.block\.")
    if levels != LEVELS:
        raise ModelError(f"{prefix}.down: {LEVELS} levels are expected, got {levels}")
    widths = [_kernel(state, f"{prefix}.down.{level}.block.0.conv1.weight")[0] for level in range(levels)]
    if odd := [width for width in (ch, *widths) if width % ch or width % GROUPS]:
        raise ModelError(f"{prefix}: widths must be multiples of conv_in's {ch} and of {GROUPS}, got {odd[0]}")
    num_res_blocks = _count(state, rf"{prefix}\.down\.0\.block\.(\d+)\.")
    # The first block going up takes the middle's output and the last skip, side by side.
    joined = _shape(state, f"{prefix}.up.0.block.0.norm1.weight", 1)[0]
    if joined != 2 * widths[-1]:
        raise ModelError(
            f"{prefix}.up.0.block.0.norm1.weight: {2 * widths[-1]} channels are expected, got {joined}"
            + ("; added skips are in no published network and are not supported" if joined == widths[-1] else "")
        )
    return UNetConfig(
        in_channels=in_channels,
        ch=ch,
        ch_mult=tuple(width // ch for width in widths),
        num_res_blocks=num_res_blocks,
        attn_levels=tuple(level for level in range(levels) if f"{prefix}.down.{level}.attn.0.q.weight" in state),
        out_ch=_kernel(state, f"{prefix}.conv_out.weight")[0],
        fuse_mode="cattn" if f"{prefix}.up.fuse.cattns.1.attention.1.weight" in state else "cat",
        time=f"{prefix}.temb.dense.0.weight" in state,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    expression = re.compile(pattern)
    return 1 + max((int(match[1]) for key in state if (match := expression.match(key))), default=-1)


def _kernel(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Output and input channels of a convolution."""
    return _shape(state, name, 4)[:2]  # type: ignore[return-value]


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise ModelError(f"{name} is missing: this is no complete LLDiffusion network")
    shape = tuple(state[name].shape)
    if 0 in shape or len(shape) != dimensions:
        raise ModelError(f"{name}: {dimensions} dimensions are expected, got the shape {shape}")
    return shape
