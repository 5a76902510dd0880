"""What LLDiffusion is trained on (paper, section 3.4): noise for the DDDM, the dark picture for DGNET."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.errors import ModelError
from streamlight.models.lldiffusion.diffusion import STEPS, alpha_bars, diffuse

if TYPE_CHECKING:
    from streamlight.models.lldiffusion.model import LLDiffusion

CLEAN_LIMIT: Final = 100.0
"""Largest factor from the squared error of the noise to that of the clean picture; it is 25,000 at the last step."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of one batch, scalars.

    Attributes:
        total: What is minimised: ``noise + image_weight · image + clean_weight · clean``.
        noise: Mean squared error of the predicted noise.
        image: Mean absolute error of DGNET's dark picture; 0 where it was left out.
        clean: See :func:`clean_loss`; 0 where it was left out.
    """

    total: Tensor
    noise: Tensor
    image: Tensor
    clean: Tensor


def antithetic_times(count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Time steps of a batch in pairs t and 999 - t, uniform, ``(count,)`` int64."""
    half = torch.randint(0, STEPS, (count // 2 + 1,), generator=generator)
    return torch.cat([half, STEPS - 1 - half])[:count]


def noise_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the noise (arXiv:2006.11239, equation 14)."""
    return F.mse_loss(predicted, noise)


def clean_loss(predicted: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the clean picture that the predicted noise amounts to.

    That is the error of the noise times (1 - ᾱ)/ᾱ, the inverse of the signal-to-noise ratio, which is limited to
    :data:`CLEAN_LIMIT` (as arXiv:2303.09556 limits it). Early steps of the sampler decide on brightness and colour;
    the noise alone hardly tells errors there, so that few steps of training leave pictures with colours at random.

    Args:
        predicted: Predicted noise, ``(N, 3, H, W)``.
        noise: The noise, likewise.
        t: Time steps, ``(N,)``.
    """
    bar = torch.tensor(alpha_bars(), dtype=noise.dtype, device=noise.device)[t + 1]
    errors = (predicted - noise).square().mean((1, 2, 3))
    return (errors * ((1 - bar) / bar).clamp(max=CLEAN_LIMIT)).mean()


def image_loss(predicted_low: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error between DGNET's dark picture and y, both clamped to the range of pictures.

    The clamp leaves no gradient where a prediction is outside.

    Args:
        predicted_low: ``(N, 3, H, W)``, [-1, 1] or beyond.
        y: ``(N, 3, H, W)`` in [-1, 1].
    """
    return F.l1_loss(((predicted_low + 1) / 2).clamp(0, 1), ((y + 1) / 2).clamp(0, 1))


def training_losses(
    model: LLDiffusion,
    low: Tensor,
    high: Tensor,
    *,
    t: Tensor,
    noise: Tensor,
    image_weight: float = 0.1,
    clean_weight: float = 0.0,
) -> Losses:
    """One training forward pass of the joint phase.

    Args:
        model: In training mode (spectral normalisation then steps its power iteration).
        low: Dark pictures, ``(N, 3, H, W)`` in [0, 1], RGB; H and W multiples of 32, at least 64.
        high: The same scenes well lit, likewise.
        t: Time steps, ``(N,)``; see :func:`antithetic_times`.
        noise: Standard normal, the shape of ``high``.
        image_weight: 0.1 for LOL, 1 for LOL-v2; 0 leaves DGNET out, as the second phase does.
        clean_weight: Of :func:`clean_loss`, which published training does without.

    Raises:
        ModelError: The image loss is asked for and the file has no DGNET.
    """
    if image_weight and model.deg_unet is None:
        raise ModelError("the weights have no DGNET (deg_unet): train with image_weight=0, or from a full checkpoint")
    x, y = 2 * high - 1, 2 * low - 1
    predicted, dark = model(diffuse(x, t, noise), y, t, high=x if image_weight else None)
    denoise = noise_loss(predicted, noise)
    image = image_loss(dark, y) if dark is not None else denoise.new_zeros(())
    clean = clean_loss(predicted, noise, t) if clean_weight else denoise.new_zeros(())
    return Losses(denoise + image_weight * image + clean_weight * clean, denoise, image, clean)
