"""GLARE as a generative model of bright pictures: condition, prior, decode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from streamlight.errors import ConfigError, ModelError
from streamlight.models.glare.config import GlareConfig
from streamlight.models.glare.flow import Conditioning
from streamlight.models.glare.fusion import fidelity_per_level
from streamlight.models.glare.network import GlareNetwork
from streamlight.models.glare.preprocess import Border, Padding, border
from streamlight.models.protocol import Condition, ModelCard, Prior, Recall
from streamlight.models.sampling import draw_pictures
from streamlight.models.weights import write_safetensors

CARD: Final = ModelCard(
    name="glare",
    summary="Latent flow and codebook of normally lit pictures (Zhou et al., GLARE, ECCV 2024)",
    revision="1",
    color="rgb",
    latent="(N, 3, H'/4, W'/4): Gaussian variable of the flow for the frame as it is padded inside",
    size_multiple=1,
    needs_global_context=True,
    stochastic=True,
    batches=True,
    dtypes=("float32", "bfloat16", "float16"),
    licence="published weights: Apache-2.0 as their authors say; code Apache-2.0",
    training_data="LOL or LOL-v2-real, and the VQGAN's pictures (published checkpoints)",
)

_TAP: Final = "tap_"


class Glare(GlareNetwork):
    """Low-light enhancement by a generative latent prior (Zhou et al., GLARE, ECCV 2024).

    The latent is the Gaussian variable of the flow: its mean is what the conditional encoder predicts, its standard
    deviation 1. The mean itself (temperature 0) is what the paper publishes.

    Args:
        config: Shape of the networks; with a codebook (``config.codes``).
        temperature: Standard deviation that :meth:`sample` draws with, 0 or more.
        fidelity: Takes the place of the learned AMB weights: 0 ignores the dark picture's features, 1 takes only them;
            one number, or one per fused level from coarse to fine. None keeps the learned ones.
        codebook: Factor on what the codebook adds at the fused levels; 1 as trained, 0 leaves it out.
        padding: How frames are grown to a size that the network takes.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(
        self,
        config: GlareConfig,
        *,
        temperature: float = 0.0,
        fidelity: float | Sequence[float] | None = None,
        codebook: float = 1.0,
        padding: Padding = "least",
    ) -> None:
        super().__init__(config)
        if not 0.0 <= temperature < float("inf"):
            raise ConfigError(f"temperature must be 0 or more, got {temperature}")
        if not -10.0 <= codebook <= 10.0:
            raise ConfigError(f"codebook must be between -10 and 10 (1 as trained), got {codebook}")
        if padding not in ("least", "benchmark", "unpaired"):
            raise ConfigError(f"padding must be 'least', 'benchmark' or 'unpaired', got {padding!r}")
        fidelity_per_level(fidelity, config.autoencoder.levels - 1)
        if fidelity is not None and self.deformable_decoder is None:
            raise ConfigError("fidelity needs a stage III file (net_G.pth); this one has no fusion decoder")
        self.temperature = temperature
        self.fidelity = fidelity
        self.codebook = codebook
        self.padding: Padding = padding
        parameters = sum(parameter.numel() for parameter in self.parameters())
        setting = f"{CARD.revision}-{padding}-t{temperature:g}-f{fidelity}-c{codebook:g}"
        self.card: ModelCard = replace(CARD, parameters=parameters, revision=setting)

    @torch.no_grad()
    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """Pad the dark picture and run the conditional encoder.

        Args:
            low: ``(N, 3, H, W)`` float in [0, 1], RGB; any size from 1×1.
            noise: Not used: the network was trained on noisy pictures.
            recall: Gives the choice of codes its hysteresis.

        Raises:
            ModelError: ``low`` is not such a tensor.
        """
        _check_picture(low)
        low = low.to(self.RRDB.color_conv.weight.device)
        conditioning = self.encode(self._border(low).add(low.float()))
        features = {"features": conditioning.features, "mean": conditioning.mean}
        working = torch.float32 if self.deformable_decoder is None else self.deformable_decoder.dtype
        features |= {f"{_TAP}{i}": tap.to(working) for i, tap in enumerate(conditioning.taps)}
        return Condition(low, features, recall)

    def prior(self, condition: Condition) -> Prior:
        """Gaussian around ``z_ll`` with standard deviation 1, ``(N, 3, h, w)``."""
        return Prior(condition.features["mean"], 1.0)

    @torch.no_grad()
    def decode(
        self,
        latent: Tensor,
        condition: Condition,
        *,
        strength: float = 1.0,
        fidelity: float | Sequence[float] | None = None,
        codebook: float | None = None,
    ) -> Tensor:
        """Inverse flow, codebook, dual decoder.

        Args:
            latent: ``(S·N, 3, h, w)``: S samples of the N pictures of ``condition``, the N of one sample in a row.
            condition: Of the dark picture.
            strength: Share of the way from the dark picture (0) to the restored one (1).
            fidelity: For this call instead of the model's own setting.
            codebook: For this call instead of the model's own setting.

        Returns:
            ``(S·N, 3, H, W)`` in [0, 1], RGB, the size of the dark picture.

        Raises:
            ModelError: The latent does not fit the condition.
            ConfigError: A setting is out of range.
        """
        copies = self._copies(latent, condition)
        low = _repeated(condition.low, copies)
        if strength == 0.0:
            return low
        conditioning = self._conditioning(condition, copies)
        unquantised = self.latent(latent, conditioning)
        image = self.restore(
            unquantised,
            conditioning,
            fidelity=self.fidelity if fidelity is None else fidelity,
            codebook=self.codebook if codebook is None else codebook,
            codes=self.choose(unquantised, condition.recall) if condition.recall is not None and copies == 1 else None,
        )
        bright = self._border(low).remove(image).clamp(0.0, 1.0).to(low.dtype)
        return bright.contiguous() if strength == 1.0 else torch.lerp(low, bright, strength)

    def sample(self, low: Tensor, **drawing: Any) -> Tensor:
        """Enhance pictures, several times on request: :func:`streamlight.models.sampling.draw_pictures`.

        At temperature 0, the model's own setting unless told otherwise, this is the published, deterministic result.

        Returns:
            ``(samples, N, 3, H, W)``.
        """
        return draw_pictures(self, low, **drawing)

    def save(self, path: str | Path) -> None:
        """Write all weights to one file from which :func:`streamlight.load` makes this network again.

        Settings are not stored. Layers in reduced precision are written in it.

        Raises:
            ModelError: The file cannot be written.
        """
        keywords = json.dumps({"norm_groups": self.config.autoencoder.norm_groups})
        metadata = {"streamlight.architecture": CARD.name, "streamlight.keywords": keywords}
        write_safetensors(path, self.state_dict(), metadata=metadata)

    def _border(self, low: Tensor) -> Border:
        return border(*low.shape[-2:], padding=self.padding, stride=self.config.autoencoder.stride)

    def _copies(self, latent: Tensor, condition: Condition) -> int:
        mean = condition.features["mean"]
        copies, rest = divmod(latent.shape[0], mean.shape[0])
        if latent.shape[1:] != mean.shape[1:] or rest or not copies:
            raise ModelError(
                f"latent must be {tuple(mean.shape)} for this condition, or a multiple of that number of pictures, "
                f"got {tuple(latent.shape)}"
            )
        return copies

    def _conditioning(self, condition: Condition, copies: int) -> Conditioning:
        levels = self.config.autoencoder.levels - 1 if self.deformable_decoder is not None else 0
        names = ["features", "mean", *(f"{_TAP}{i}" for i in range(levels))]
        features, mean, *taps = (_repeated(condition.features[name], copies) for name in names)
        return Conditioning(features, mean, taps)


def _repeated(x: Tensor, copies: int) -> Tensor:
    return x.repeat(copies, *[1] * (x.ndim - 1)) if copies > 1 else x


def _check_picture(low: Tensor) -> None:
    if not isinstance(low, Tensor):
        raise ModelError(f"low must be one tensor (N, 3, H, W), all pictures of one size, got {type(low).__name__}")
    shape = tuple(low.shape)
    if low.ndim != 4 or shape[1] != 3 or 0 in shape:
        raise ModelError(f"low must be (N, 3, H, W), RGB, and not empty, got {shape}")
    if not low.is_floating_point():
        raise ModelError(f"low must be floating point in [0, 1], got {low.dtype}")
