"""Hyper-parameters of GLARE, read off the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor

from streamlight.errors import ModelError

State = Mapping[str, Tensor]

PUBLISHED_GROUPS: Final = 32


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Shape of an encoder and its decoder (GLARE, section 3.1; after VQGAN, arXiv:2012.09841).

    Attributes:
        width: Channels at full resolution.
        multipliers: Channels per level as multiples of ``width``, from full resolution to the coarsest.
        blocks: Residual blocks per level of the encoder; the decoder has one more.
        attention: Levels with attention after every block. The middle always has one.
        z_channels: Channels of the latent.
        norm_groups: Groups of every normalisation. Shapes do not tell: see :func:`default_groups`.
    """

    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (2,)
    z_channels: int = 3
    norm_groups: int = PUBLISHED_GROUPS

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.multipliers)

    @property
    def stride(self) -> int:
        """Pixels per latent position, in each direction."""
        return 2 ** (self.levels - 1)

    def channels(self, level: int) -> int:
        """Channels at a level."""
        return self.width * self.multipliers[level]


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Shape of the invertible latent flow (GLARE, section 3.2).

    Attributes:
        channels: Channels of the latent.
        condition_channels: Channels of the conditioning feature.
        hidden: Width of the couplings' networks.
        groups: Repetitions of ``plain`` steps without, then ``coupled`` steps with a coupling.
        plain: Steps without coupling per group.
        coupled: Steps with coupling per group.
    """

    channels: int = 3
    condition_channels: int = 64
    hidden: int = 64
    groups: int = 2
    plain: int = 2
    coupled: int = 12


@dataclass(frozen=True, slots=True)
class GlareConfig:
    """What a GLARE weights file holds.

    Attributes:
        stage: Training stage that wrote the file: 1 the VQGAN, 2 conditional encoder and flow, 3 also the fusion
            decoder.
        autoencoder: Shape of its encoders and decoders.
        flow: Shape of the flow; None at stage 1.
        codes: Number of codes; 0 where the VQGAN is in another file.
    """

    stage: Literal[1, 2, 3] = 3
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    flow: FlowConfig | None = FlowConfig()
    codes: int = 0


def default_groups(width: int) -> int:
    """Groups taken for a network of this width: 32 as published, half the width where 32 does not divide it."""
    return PUBLISHED_GROUPS if width % PUBLISHED_GROUPS == 0 else max(1, width // 2)


def deduce(state: State) -> GlareConfig:
    """Hyper-parameters of a state dict with the official names.

    Raises:
        ModelError: A tensor that decides a hyper-parameter is missing or has an impossible shape.
    """
    if "quantize.embedding.weight" in state:
        codes = _shape(state, "quantize.embedding.weight", 2)[0]
        return GlareConfig(stage=1, autoencoder=_autoencoder(state, "encoder"), flow=None, codes=codes)
    fused = any(name.startswith("deformable_decoder.") for name in state)
    inside = "vqgan.quantize.embedding.weight"
    return GlareConfig(
        stage=3 if fused else 2,
        autoencoder=_autoencoder(state, "RRDB.encoder"),
        flow=_flow(state),
        codes=_shape(state, inside, 2)[0] if inside in state else 0,
    )


def _autoencoder(state: State, prefix: str) -> AutoencoderConfig:
    width, _, _, _ = _shape(state, f"{prefix}.conv_in.weight", 4)
    if width < 1:
        raise ModelError(f"{prefix}.conv_in.weight: has no output channels")
    multipliers = []
    for level in range(_count(state, f"{prefix}.down.")):
        name = f"{prefix}.down.{level}.block.0.conv1.weight"
        channels = _shape(state, name, 4)[0]
        if channels < width or channels % width:
            raise ModelError(f"{name}: {channels} output channels are no multiple of the {width} of {prefix}.conv_in")
        multipliers.append(channels // width)
    if not multipliers:
        raise ModelError(f"{prefix}.down.0.block.0.conv1.weight: missing")
    levels = range(len(multipliers))
    return AutoencoderConfig(
        width=width,
        multipliers=tuple(multipliers),
        blocks=_count(state, f"{prefix}.down.0.block."),
        attention=tuple(level for level in levels if f"{prefix}.down.{level}.attn.0.q.weight" in state),
        z_channels=_shape(state, f"{prefix}.conv_out.weight", 4)[0],
        norm_groups=default_groups(width),
    )


def _flow(state: State) -> FlowConfig:
    prefix = "flowUpsamplerNet.layers."
    coupled = [f"{prefix}{step}.affine.fFeatures.0.weight" in state for step in range(_count(state, prefix))]
    if True not in coupled:
        raise ModelError(f"{prefix}*.affine.fFeatures.0.weight: missing; GLARE's flow has conditional couplings")
    plain = coupled.index(True)
    rest = coupled[plain:]
    length = rest.index(False) if False in rest else len(rest)
    groups, left = divmod(len(coupled), plain + length)
    if left or coupled != ([False] * plain + [True] * length) * groups:
        raise ModelError(
            f"{prefix}*: steps with and without a coupling do not repeat in equal groups: {_runs(coupled)}"
        )
    first = f"{prefix}{plain}."
    return FlowConfig(
        channels=_shape(state, f"{first}invconv.weight", 2)[0],
        condition_channels=_shape(state, "RRDB.cond_conv.0.weight", 4)[0],
        hidden=_shape(state, f"{first}affine.fFeatures.0.weight", 4)[0],
        groups=groups,
        plain=plain,
        coupled=length,
    )


def _shape(state: State, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise ModelError(f"{name}: missing")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions:
        raise ModelError(f"{name}: has {len(shape)} dimensions, expected {dimensions}")
    return shape


def _count(state: State, prefix: str) -> int:
    """How many consecutive indices follow ``prefix``, from 0."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    found = {int(match[1]) for name in state if (match := pattern.match(name))}
    count = 0
    while count in found:
        count += 1
    return count


def _runs(flags: list[bool]) -> str:
    return "".join("c" if flag else "p" for flag in flags)
