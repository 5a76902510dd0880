"""Hyper-parameters of LLFlow, read off the names and shapes of a state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from streamlight.errors import ModelError

LEVELS: Final = 3
SIZE_MULTIPLE: Final = 2**LEVELS
INPUT_CHANNELS: Final = 6
"""Network input: logarithm and histogram-equalised picture."""

_FIRST: Final = "RRDB.conv_first.weight"
_BLOCK: Final = re.compile(r"RRDB\.RRDB_trunk\.(\d+)\.RDB1\.conv1\.weight$")
_STEP: Final = re.compile(r"flowUpsamplerNet\.layers\.(\d+)\.actnorm\.bias$")

UNUSED: Final = (
    r"RRDB\.(downconv3|HRconv|conv_last|awb_para)\.(weight|bias)$",
    r"flowUpsamplerNet\.f\.0\.(weight|bias)$",
)
"""Layers in every official file that influence nothing."""


@dataclass(frozen=True, slots=True)
class LLFlowConfig:
    """Hyper-parameters, with the names of the published configurations where those exist.

    Attributes:
        nf: Width of the encoder.
        nb: Number of RRDB blocks.
        growth: Growth of their dense blocks.
        taps: Blocks (0-based) whose outputs condition the flow (``stackRRDB.blocks``).
        steps: Steps with a coupling, per level (``K``).
        plain_steps: Steps without a coupling at the start of each level (``additionalFlowNoAffine``).
        hidden: Width of the networks inside the couplings.
    """

    nf: int
    nb: int
    growth: int
    taps: tuple[int, ...]
    steps: tuple[int, ...]
    plain_steps: int
    hidden: int

    @property
    def condition_channels(self) -> int:
        """Channels of the conditioning features (``conditionInFeaDim``)."""
        return self.nf * (1 + len(self.taps))


PUBLISHED: Final = {
    "LOL-pc": LLFlowConfig(64, 24, 32, (1, 3, 5, 7), (12, 12, 12), 2, 64),
    "LOLv2-pc": LLFlowConfig(64, 24, 32, (1, 3, 5, 7), (12, 12, 12), 2, 64),
    "LOL_smallNet": LLFlowConfig(32, 4, 32, (1,), (4, 4, 4), 2, 64),
}


def is_llflow(tensors: Mapping[str, Tensor]) -> bool:
    """Whether ``tensors`` is an LLFlow: an RRDB encoder on its 12 channels and a conditional flow."""
    first = tensors.get(_FIRST)
    return (
        first is not None
        and first.ndim == 4
        and any(name.startswith("flowUpsamplerNet.layers.") for name in tensors)
        and "RRDB.fine_tune_color_map.0.weight" in tensors
    )


def deduce(tensors: Mapping[str, Tensor], *, taps: tuple[int, ...] | None = None) -> LLFlowConfig:
    """The hyper-parameters of a state dict.

    How many blocks are tapped follows from the shapes, *which* ones does not: every published file taps the first
    odd ones (1; 1, 3, 5, 7), and so does the default.

    Args:
        tensors: Name → tensor, official names.
        taps: Blocks that are tapped, where they are others.

    Raises:
        ModelError: A tensor is missing or of a shape that no LLFlow has, or ``taps`` does not fit.
    """
    nf, inputs = _shape(tensors, _FIRST, 4)[:2]
    if inputs != INPUT_CHANNELS + 6:
        raise ModelError(
            f"{_FIRST}: reads {inputs} channels; only the published input (log and equalised, 12) is known"
        )
    blocks = _indices(tensors, _BLOCK)
    if blocks != list(range(len(blocks))) or not blocks:
        raise ModelError(f"RRDB.RRDB_trunk: blocks 0, 1, 2, … expected, found {blocks}")
    plain, steps, first = _levels(tensors)
    name = f"flowUpsamplerNet.layers.{first}.affine.fFeatures.0.weight"
    hidden, features = _shape(tensors, name, 4)[:2]
    stacked, rest = divmod(features, nf)
    if rest or stacked < 1:
        raise ModelError(f"{name}: reads {features} channels, not a multiple of the encoder's width {nf}")
    return LLFlowConfig(
        nf=nf,
        nb=len(blocks),
        growth=_shape(tensors, "RRDB.RRDB_trunk.0.RDB1.conv1.weight", 4)[0],
        taps=_taps(stacked - 1, len(blocks), taps),
        steps=steps,
        plain_steps=plain,
        hidden=hidden,
    )


def _taps(count: int, blocks: int, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    if wanted is None:
        odd = tuple(range(1, blocks, 2))[:count]
        return odd if len(odd) == count else tuple(range(blocks - count, blocks))
    taps = tuple(wanted)
    if len(taps) != count:
        raise ModelError(f"taps must name {count} blocks, as the conditioning's width says, got {list(taps)}")
    if any(not 0 <= tap < blocks for tap in taps) or len(set(taps)) != count:
        raise ModelError(f"taps must be different blocks between 0 and {blocks - 1}, got {list(taps)}")
    return taps


def _levels(tensors: Mapping[str, Tensor]) -> tuple[int, tuple[int, ...], int]:
    """Plain steps per level, coupled steps of each level, and the index of the first coupled step.

    A squeeze has no tensors, so levels are runs of consecutive layer indices.
    """
    indices = _indices(tensors, _STEP)
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    layout = [["affine" if _coupled(tensors, index) else "plain" for index in run] for run in runs]
    starts = [run[0] for run in runs]
    expected = [1 + sum(len(run) + 1 for run in runs[:level]) for level in range(len(runs))]
    if len(runs) != LEVELS or starts != expected:
        raise ModelError(f"flowUpsamplerNet.layers: {LEVELS} levels, each after one squeeze, expected; found {indices}")
    plain = {kinds.count("plain") for kinds in layout}
    if len(plain) != 1 or any(kinds != sorted(kinds, reverse=True) or "affine" not in kinds for kinds in layout):
        raise ModelError("flowUpsamplerNet.layers: each level must be plain steps, then steps with a coupling")
    steps = tuple(kinds.count("affine") for kinds in layout)
    return plain.pop(), steps, starts[0] + layout[0].index("affine")


def _coupled(tensors: Mapping[str, Tensor], index: int) -> bool:
    return f"flowUpsamplerNet.layers.{index}.affine.fFeatures.0.weight" in tensors


def _indices(tensors: Mapping[str, Tensor], pattern: re.Pattern[str]) -> list[int]:
    return sorted(int(match[1]) for name in tensors if (match := pattern.match(name)))


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ModelError(f"{name}: missing, and LLFlow's hyper-parameters cannot be told without it")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ModelError(f"{name}: {dimensions} dimensions expected, got shape {shape}")
    return shape
