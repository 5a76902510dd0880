"""What LLDiffusion is trained on (paper, section 3.4): noise for the DDDM, the dark picture for DGNET."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.errors import ModelError
from streamlight.models.lldiffusion.diffusion import STEPS, diffuse

if TYPE_CHECKING:
    from streamlight.models.lldiffusion.model import LLDiffusion


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of one batch, scalars.

    Attributes:
        total: What is minimised: ``noise + image_weight · image``.
        noise: Mean squared error of the predicted noise.
        image: Mean absolute error of DGNET's dark picture; 0 where it was left out.
    """

    total: Tensor
    noise: Tensor
    image: Tensor


def antithetic_times(count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Time steps of a batch in pairs t and 999 - t, uniform, ``(count,)`` int64."""
    half = torch.randint(0, STEPS, (count // 2 + 1,), generator=generator)
    return torch.cat([half, STEPS - 1 - half])[:count]


def noise_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the noise (arXiv:2006.11239, equation 14)."""
    return F.mse_loss(predicted, noise)


def image_loss(predicted_low: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error between DGNET's dark picture and y, both clamped to the range of pictures.

    The clamp leaves no gradient where a prediction is outside.

    Args:
        predicted_low: ``(N, 3, H, W)``, [-1, 1] or beyond.
        y: ``(N, 3, H, W)`` in [-1, 1].
    """
    return F.l1_loss(((predicted_low + 1) / 2).clamp(0, 1), ((y + 1) / 2).clamp(0, 1))


def training_losses(
    model: LLDiffusion, low: Tensor, high: Tensor, *, t: Tensor, noise: Tensor, image_weight: float = 0.1
) -> Losses:
    """One training forward pass of the joint phase.

    Args:
        model: In training mode (spectral normalisation then steps its power iteration).
        low: Dark pictures, ``(N, 3, H, W)`` in [0, 1], RGB; H and W multiples of 32, at least 64.
        high: The same scenes well lit, likewise.
        t: Time steps, ``(N,)``; see :func:`antithetic_times`.
        noise: Standard normal, the shape of ``high``.
        image_weight: 0.1 for LOL, 1 for LOL-v2; 0 leaves DGNET out, as the second phase does.

    Raises:
        ModelError: The image loss is asked for and the file has no DGNET.
    """
    if image_weight and model.deg_unet is None:
        raise ModelError("the weights have no DGNET (deg_unet): train with image_weight=0, or from a full checkpoint")
    x, y = 2 * high - 1, 2 * low - 1
    predicted, dark = model(diffuse(x, t, noise), y, t, high=x if image_weight else None)
    denoise = noise_loss(predicted, noise)
    image = image_loss(dark, y) if dark is not None else denoise.new_zeros(())
    return Losses(denoise + image_weight * image, denoise, image)
