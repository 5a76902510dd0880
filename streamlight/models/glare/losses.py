"""Training losses of GLARE's stages II and III (GLARE, section 3.4). Stage I: :class:`VQGAN` returns its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.models.glare.network import GlareNetwork

Features = Callable[[Tensor], Sequence[Tensor]]

PERCEPTUAL_WEIGHT: Final = 0.01
MS_SSIM_WEIGHT: Final = 0.2
_SCALES: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW: Final = 11
_SIGMA: Final = 1.5


def stage2_loss(
    network: GlareNetwork,
    low: Tensor,
    latent: Tensor,
    *,
    train_gt_ratio: float = 0.2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean negative log-likelihood of the latents of normally lit pictures (GLARE, eq. 4).

    Args:
        network: In training mode, so that activation norms initialise themselves on the first batch.
        low: Dark pictures, ``(N, 3, H, W)`` in [0, 1].
        latent: ``VQGAN.encode`` of the normally lit ones, ``(N, z, h, w)``, without gradient.
        train_gt_ratio: Probability with which the whole batch takes the latent for the mean of its Gaussian.
        generator: Source of that one draw.
    """
    mean_is_latent = bool(torch.rand((), generator=generator) < train_gt_ratio)
    return network.negative_log_likelihood(low, latent, mean_is_latent=mean_is_latent).mean()


class Stage3Loss(NamedTuple):
    """Terms of the stage III loss, scalars.

    Attributes:
        total: ``l1 + 0.01·perceptual + 0.2·(1 - ms_ssim)``.
        l1: Mean absolute difference.
        perceptual: Mean over the feature maps of their mean squared difference; 0 without a feature extractor.
        ms_ssim: Multi-scale structural similarity in [0, 1].
    """

    total: Tensor
    l1: Tensor
    perceptual: Tensor
    ms_ssim: Tensor


def stage3_loss(image: Tensor, target: Tensor, *, features: Features | None = None) -> Stage3Loss:
    """Loss of the fusion decoder's pictures.

    Args:
        image: Network output, ``(N, 3, H, W)``; clamped here, so that saturated pixels have no gradient.
        target: Ground truth in [0, 1], same shape; at least 16×16.
        features: Maps pictures in [0, 1] to feature maps. Official training takes VGG16's (ImageNet, without its
            normalisation) after ``relu1_2``, ``relu2_2`` and ``relu3_3``.
    """
    image = image.clamp(0.0, 1.0)
    l1 = nan_safe_l1(image, target)
    similarity = ms_ssim(image, target)
    perceptual = l1.new_zeros(())
    if features is not None:
        pairs = list(zip(features(image), features(target), strict=True))
        perceptual = torch.stack([F.mse_loss(ours, wanted.detach()) for ours, wanted in pairs]).mean()
    total = l1 + PERCEPTUAL_WEIGHT * perceptual + MS_SSIM_WEIGHT * (1.0 - similarity)
    return Stage3Loss(total, l1, perceptual, similarity)


def nan_safe_l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over all values; one that is not a number counts as 0 and passes no gradient."""
    valid = ~(torch.isnan(image) | torch.isnan(target))
    return torch.where(valid, torch.where(valid, image - target, 0.0).abs(), 0.0).mean()


def ms_ssim(image: Tensor, target: Tensor) -> Tensor:
    """Multi-scale SSIM as official training computes it (after Wang et al., 2003), not the textbook value.

    Every term is shifted to ``(m + 1) / 2``, the SSIM of the coarsest scale enters four times, and windows shrink to
    the picture at coarse scales.

    Args:
        image: ``(N, C, H, W)`` in [0, 1]; H and W at least 16.
        target: Same shape.

    Returns:
        A scalar in [0, 1].
    """
    weights = torch.tensor(_SCALES, dtype=image.dtype, device=image.device)
    similarities, contrasts = [], []
    for scale in range(len(_SCALES)):
        if scale:
            image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
        similarity, contrast = _ssim(image, target)
        similarities.append(similarity)
        contrasts.append(contrast)
    coarsest = ((similarities[-1] + 1) / 2) ** weights[-1]
    finer = ((torch.stack(contrasts[:-1]) + 1) / 2) ** weights[:-1]
    return (finer * coarsest).prod()


def _ssim(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term at one scale, for a data range of 1."""
    channels, size = image.shape[1], min(_WINDOW, *image.shape[-2:])
    position = torch.arange(size, dtype=image.dtype, device=image.device) - size // 2
    line = torch.exp(-position.square() / (2.0 * _SIGMA**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(channels, 1, size, size)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=channels)

    mean_a, mean_b = blur(image), blur(target)
    square_a, square_b, product = mean_a.square(), mean_b.square(), mean_a * mean_b
    variances = blur(image.square()) - square_a + blur(target.square()) - square_b
    covariance = blur(image * target) - product
    contrast = (2.0 * covariance + 0.03**2) / (variances + 0.03**2)
    luminance = (2.0 * product + 0.01**2) / (square_a + square_b + 0.01**2)
    return (luminance * contrast).mean(), contrast.mean()
