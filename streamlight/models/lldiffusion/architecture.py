"""How the registry recognises and builds LLDiffusion."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import torch

from streamlight.models.architecture import Architecture, as_dtype
from streamlight.models.lldiffusion.config import (
    GROUPS,
    LLDiffusionConfig,
    UNetConfig,
    check_groups,
    current_order,
    deduce,
    is_lldiffusion,
)
from streamlight.models.lldiffusion.model import CARD, LLDiffusion
from streamlight.models.lldiffusion.preprocess import Padding
from streamlight.models.lldiffusion.sampling import Sampling
from streamlight.models.weights import Weights, assemble, fingerprint

_MULT: Final = (1, 1, 2, 2, 4, 4)

_LOL: Final = LLDiffusionConfig(
    encoder_ch=16,
    features=(512, 512, 256),
    dddm=UNetConfig(9, 64, _MULT, 2, fuse_mode="cattn", time=True),
    dgnet=UNetConfig(3, 32, _MULT, 2, fuse_mode="cattn"),
)
_LOL_V2: Final = LLDiffusionConfig(
    encoder_ch=16,
    features=(512, 512, 256, 256, 128, 128),
    dddm=UNetConfig(9, 128, _MULT, 4, time=True),
    dgnet=UNetConfig(3, 128, _MULT, 4),
)

UNUSED: Final = (
    r"(diff|deg)_unet\.fuse\.",  # a gate of an injection before the decoder, which no network has
    r"(diff|deg)_unet\.up\.fuse\.cattns\.",  # gates of levels without an injected feature
    r"diff_unet\.mid\.block_[12]\.temb_proj\.",  # the middle is not told the time step
)
"""Names that are stored in published files and influence nothing."""


def build(
    weights: Weights,
    *,
    dtype: str | torch.dtype = "float32",
    dgnet: bool = True,
    steps: int = 25,
    eta: float = 0.0,
    t_start: int | None = None,
    warm_steps: int = 4,
    warm_start: int = 300,
    tile: int | None = None,
    stride: int | None = None,
    blend: Literal["smooth", "box"] = "smooth",
    statistics: Literal["tile", "frame"] = "tile",
    tile_batch: int = 8,
    seed: int = 0,
    padding: Padding = "least",
    temperature: float = 1.0,
    norm_groups: int = GROUPS,
) -> LLDiffusion:
    """Make a model from weights; the sampler's settings are those of :class:`Sampling`.

    Args:
        weights: Tensors by their current names.
        dtype: Working precision of ``diff_unet``; its two ends, encoder, colour map and trajectory stay float32.
        dgnet: Keep DGNET, which only training needs, where the file has it.
        steps: See :class:`Sampling`, as for all that follow.
        eta: Share of fresh noise.
        t_start: First time step.
        warm_steps: Evaluations for a frame that starts from the one before.
        warm_start: First time step of such a frame.
        tile: Side of tiles.
        stride: Distance of tiles.
        blend: Average of overlapping tiles.
        statistics: Where the encoder looks.
        tile_batch: Tiles per call.
        seed: Of the fresh noise.
        padding: Inner size of frames.
        temperature: Standard deviation of the start noise.
        norm_groups: Groups of every normalisation, which shapes do not tell; 32 as published, or a divisor of that.

    Raises:
        ModelError: The weights do not fit.
        ConfigError: A setting is out of range.
    """
    sampling = Sampling(
        steps=steps,
        eta=eta,
        t_start=t_start,
        warm_steps=warm_steps,
        warm_start=warm_start,
        tile=tile,
        stride=stride,
        blend=blend,
        statistics=statistics,
        tile_batch=tile_batch,
        seed=seed,
        padding=padding,
    )
    working = as_dtype(dtype, CARD)
    check_groups(norm_groups)
    config = replace(deduce(weights.tensors), norm_groups=norm_groups)
    unused = UNUSED if dgnet else (*UNUSED, r"deg_unet\.")
    if not dgnet:
        config = replace(config, dgnet=None)
    grouped = "" if norm_groups == GROUPS else f"-g{norm_groups}"
    revision = f"{fingerprint(weights.tensors)}{grouped}-{working}".replace("torch.", "")
    model = assemble(
        lambda: LLDiffusion(config, sampling=sampling, temperature=temperature, revision=revision),
        weights,
        unused=unused,
    )
    model.diff_unet.work_in(working)
    model.diff_unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


ARCHITECTURE: Final = Architecture(
    card=CARD,
    detect=is_lldiffusion,
    deduce=deduce,
    network=LLDiffusion,
    build=build,
    canonical=current_order,
    unused=UNUSED,
    published={"deg-unet-lol": _LOL, "deg-unet-lol-v2-real": _LOL_V2, "deg-unet-lol-v2-sys": _LOL_V2},
)
"""Entry for the registry."""
