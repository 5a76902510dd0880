"""Stage III: adaptive feature transformation (AFT; GLARE, section 3.3).

A second decoder reads the same latent. At every level but the coarsest it mixes in the conditional encoder's feature F
(adaptive mixing block, AMB: what the dark picture shows) and the normal-light decoder's feature N, aligned by a
deformable convolution (what the codebook knows). Two numbers per level set how far to trust either, which makes
fidelity adjustable at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamlight.errors import ConfigError
from streamlight.models.glare.autoencoder import Decoder
from streamlight.models.glare.config import AutoencoderConfig
from streamlight.models.nn.deform import ModulatedDeformConv2d

_INITIAL = (-1.0, -0.6)
"""Initial AMB weights, coarse to fine (beta 0.269 and 0.354); further levels start as the last."""


class AdaptiveMix(nn.Module):
    """AMB: ``beta·F + (1 - beta)·h`` with one learned ``beta = sigmoid(w)``."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([initial]))

    def forward(self, feature: Tensor, h: Tensor, *, fidelity: float | None = None) -> Tensor:
        """Mix.

        Args:
            feature: F of the conditional encoder, ``(N, C, H, W)``.
            h: Running feature of the fusion decoder, same shape.
            fidelity: Takes the place of beta, 0 (ignore F) to 1 (only F); None for the learned value.
        """
        beta = self.w.sigmoid().to(h.dtype) if fidelity is None else torch.full_like(self.w, fidelity, dtype=h.dtype)
        return torch.lerp(h, feature.to(h.dtype), beta)


class CodebookWarp(nn.Module):
    """Aligns the normal-light feature with the mixed one: deformable convolution with offsets seen in both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.dcn = ModulatedDeformConv2d(channels, channels, groups=4)

    def forward(self, normal: Tensor, mixed: Tensor) -> Tensor:
        """``(N, C, H, W)`` twice to ``(N, C, H, W)`` float32."""
        return self.dcn(normal, self.offset(torch.cat([normal.to(mixed.dtype), mixed], 1)))


class FusionDecoder(Decoder):
    """Decoder with AMB and codebook warp at every level but the coarsest (key ``deformable_decoder``).

    ``mix`` and ``warp`` are indexed from the coarsest fused level to full resolution.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config, head="residual_conv")
        levels = range(config.levels - 2, -1, -1)
        self.mix = nn.ModuleList(AdaptiveMix(_INITIAL[min(i, len(_INITIAL) - 1)]) for i in range(len(levels)))
        self.warp = nn.ModuleList(CodebookWarp(config.channels(level)) for level in levels)

    def fuse(
        self,
        latent: Tensor,
        normal: list[Tensor],
        dark: list[Tensor],
        *,
        fidelity: float | Sequence[float] | None = None,
        codebook: float = 1.0,
    ) -> Tensor:
        """Decode.

        Args:
            latent: The flow's latent before quantisation, ``(N, z, h, w)``.
            normal: Features N0, N1, … of the normal-light decoder. Emptied on the way where no gradient is recorded,
                so that memory is freed early.
            dark: Features F0, F1, … of the conditional encoder.
            fidelity: Takes the place of the learned AMB weights: one number in [0, 1] for all levels or one per
                level, coarse to fine.
            codebook: Factor on the codebook's contribution; 0 leaves it out.

        Returns:
            ``(N, 3, H, W)``, not clamped.
        """
        weights = fidelity_per_level(fidelity, len(self.mix))
        normal = normal if not torch.is_grad_enabled() else list(normal)
        h = self.start(latent)
        for number in range(len(self.up) - 1, -1, -1):
            level = self.level(number)
            h = level(h)
            if normal and number < len(self.up) - 1:
                index = len(self.up) - 2 - number
                mixed = self.mix[index](dark[number], h, fidelity=weights[index])
                del h
                h = self._transform(index, mixed, normal.pop(), codebook)
            if level.upsample is not None:
                h = level.upsample(h)
        return self.finish(h)

    def _transform(self, index: int, mixed: Tensor, normal: Tensor, codebook: float) -> Tensor:
        if codebook == 0.0:
            return mixed
        warped = self.warp[index](normal, mixed)
        scaled = warped * (codebook * mean_ratio(mixed, warped))
        return mixed + scaled.to(mixed.dtype)


def mean_ratio(mixed: Tensor, warped: Tensor) -> Tensor:
    """Mean of the mixed feature over that of the warped one, per picture: ``(N, 1, 1, 1)``.

    The official code takes one ratio over the whole batch; at batch 1 the two agree. Per picture, a result does not
    depend on its companions.
    """
    dims = (1, 2, 3)
    return mixed.to(warped.dtype).mean(dims, keepdim=True) / warped.mean(dims, keepdim=True)


def fidelity_per_level(fidelity: float | Sequence[float] | None, levels: int) -> list[float | None]:
    """One AMB weight per fused level, coarse to fine.

    Raises:
        ConfigError: Not one number per level, or one outside of [0, 1].
    """
    if fidelity is None:
        return [None] * levels
    values = [float(fidelity)] * levels if isinstance(fidelity, (int, float)) else [float(value) for value in fidelity]
    if len(values) != levels:
        raise ConfigError(f"fidelity has {len(values)} values; expected one, or {levels} (coarse to fine)")
    for value in values:
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"fidelity must be between 0 and 1, got {value}")
    return list(values)
