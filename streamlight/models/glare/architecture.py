"""How the registry recognises and builds GLARE.

A published GLARE is two files: ``net_G.pth`` (conditional encoder, flow, fusion decoder) and ``vqgan.pkl`` (codebook
and normal-light decoder). The second is found beside the first, named, or stored in one file with it under names that
start with ``vqgan.``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from streamlight.errors import ConfigError, ModelError
from streamlight.models.architecture import Architecture, as_dtype
from streamlight.models.glare.config import AutoencoderConfig, GlareConfig, deduce
from streamlight.models.glare.model import CARD, Glare
from streamlight.models.glare.network import build_network, set_precision
from streamlight.models.glare.preprocess import Padding
from streamlight.models.glare.vqgan import NormalLightPrior
from streamlight.models.weights import Weights, assemble, compare, fingerprint, read_weights, write_safetensors

INSIDE: Final = "vqgan."
"""Prefix of the VQGAN's tensors where they share a file with the rest."""

COMPANIONS: Final = ("vqgan.safetensors", "vqgan.pkl", "vqgan.pth", "vqgan.pt")
"""Names under which the VQGAN is looked for beside the other file."""

_NEEDED: Final = ("decoder.", "quantize.", "post_quant_conv.")

UNUSED: Final = (
    r"deformable_decoder\.(conv_out|scale|bias|enc)\.",  # leftovers of the fusion decoder's base class
    r"flowUpsamplerNet\.f\.",  # LLFlow's feature convolution, never called
    r"vqgan\.(encoder|quant_conv)\.",  # training only
    r"(vqgan\.)?(conv_semantic|vgg_feat_extractor|discriminator|perceptual_loss|loss)\.",  # training only
)
"""Names that are stored in published files and influence no picture."""


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether these are tensors of GLARE: its conditional encoder, its fusion decoder, or its VQGAN."""
    if "quantize.embedding.weight" in state:
        return any(name.startswith("decoder.up.") for name in state)
    return any(name.startswith(("RRDB.encoder.", "deformable_decoder.")) for name in state)


def build(
    weights: Weights,
    *,
    vqgan: str | Path | None = None,
    dtype: str | torch.dtype = "float32",
    temperature: float = 0.0,
    fidelity: float | Sequence[float] | None = None,
    codebook: float = 1.0,
    padding: Padding = "least",
    norm_groups: int | None = None,
) -> Glare:
    """Make a model from weights.

    Args:
        weights: Tensors of stage III (or II: the normal-light decoder alone then makes the picture).
        vqgan: File with codebook and normal-light decoder; None looks in ``weights`` and beside it.
        dtype: Working precision of the two decoders; what decides on codes (conditional encoder, flow, codebook) stays
            float32, and so does the deformable sampling.
        temperature: See :class:`Glare`, as for those that follow.
        fidelity: Replaces the learned AMB weights.
        codebook: Factor on the codebook's contribution.
        padding: How frames are grown.
        norm_groups: Groups of every normalisation, which shapes do not tell; None takes 32 as published, or half the
            width where 32 does not divide it.

    Raises:
        ModelError: The weights do not fit, or the VQGAN is not found.
        ConfigError: A setting is out of range.
    """
    working = as_dtype(dtype, CARD)
    config = deduce(weights.tensors)
    if config.stage == 1:
        raise ModelError(
            f"{weights.path}: is GLARE's codebook and normal-light decoder (stage I), which enhances nothing alone; "
            "load net_G.pth and leave this file beside it, or name it with vqgan=…"
        )
    if norm_groups is not None:
        config = replace(config, autoencoder=_grouped(config, norm_groups))
    if config.codes and vqgan is not None:
        raise ModelError(f"{weights.path}: holds the VQGAN already; leave out vqgan={str(vqgan)!r}")
    if not config.codes:
        prior = _normal_light(weights, config, vqgan)
        config = replace(config, codes=prior["quantize.embedding.weight"].shape[0])
        inside = {INSIDE + name: tensor for name, tensor in prior.items()}
        weights = replace(weights, tensors={**weights.tensors, **inside})
    settings = {"temperature": temperature, "fidelity": fidelity, "codebook": codebook, "padding": padding}
    model = assemble(lambda: Glare(config, **settings), weights, unused=UNUSED)  # type: ignore[arg-type]
    identity = f"{fingerprint(model.state_dict())}-g{config.autoencoder.norm_groups}-{working}".replace("torch.", "")
    model.card = replace(model.card, revision=f"{identity}-{model.card.revision}")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if working != torch.float32:
        set_precision(model, working)
    return model


def combine(net: str | Path, vqgan: str | Path, target: str | Path) -> None:
    """Write the two files of a published GLARE as one ``.safetensors``, without what training alone needs.

    Args:
        net: ``net_G.pth``, or a stage II file.
        vqgan: ``vqgan.pkl``.
        target: Where to; an existing file is an error.

    Raises:
        ModelError: A file does not fit, or ``target`` exists.
    """
    if Path(target).exists():
        raise ModelError(f"{target}: exists already; choose another name")
    weights = read_weights(net)
    config = deduce(weights.tensors)
    if config.stage == 1 or config.codes:
        raise ModelError(f"{net}: expected GLARE's net_G.pth or a stage II file")
    inside = {INSIDE + name: tensor for name, tensor in _normal_light(weights, config, vqgan).items()}
    write_safetensors(target, {**weights.tensors, **inside}, metadata=weights.metadata)


def _grouped(config: GlareConfig, groups: int) -> AutoencoderConfig:
    shape = config.autoencoder
    if groups < 1 or shape.width % groups:
        raise ConfigError(f"norm_groups must divide the width {shape.width}, got {groups}")
    return replace(shape, norm_groups=groups)


def _normal_light(weights: Weights, config: GlareConfig, vqgan: str | Path | None) -> dict[str, Tensor]:
    """Tensors of codebook and normal-light decoder, checked against the shape of the rest."""
    path = Path(vqgan) if vqgan is not None else _beside(weights.path)
    read = read_weights(path)
    if "quantize.embedding.weight" not in read.tensors:
        raise ModelError(f"{path}: expected GLARE's vqgan.pkl, but quantize.embedding.weight is missing")
    tensors = {name: tensor for name, tensor in read.tensors.items() if name.startswith(_NEEDED)}
    codebook = tensors["quantize.embedding.weight"]
    codes = codebook.shape[0] if codebook.ndim else 0
    with torch.device("meta"):
        skeleton = NormalLightPrior(config.autoencoder, codes)
    fit = compare(skeleton, tensors)
    if not fit.complete:
        raise ModelError(f"{path}: does not fit {weights.path}: {'; '.join(fit.problems())}")
    return tensors


def _beside(path: str) -> Path:
    folder = Path(path).parent
    for name in COMPANIONS:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"{path}: GLARE also needs its codebook and normal-light decoder, and no vqgan.pkl or vqgan.safetensors lies "
        "beside it: put it there or name it with vqgan=…"
    )


ARCHITECTURE: Final = Architecture(
    card=CARD,
    detect=detect,
    deduce=deduce,
    network=build_network,
    build=build,
    unused=UNUSED,
    published={
        "LOL, LOL-v2-real (net_G)": GlareConfig(stage=3),
        "LOL stage II": GlareConfig(stage=2),
        "VQGAN": GlareConfig(stage=1, flow=None, codes=8192),
    },
)
"""Entry for the registry."""
