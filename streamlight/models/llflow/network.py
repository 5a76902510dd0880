"""LLFlow as its paper describes it: a conditional encoder and an invertible network between image and latent.

"Low-Light Image Enhancement with Normalizing Flow", Wang et al., AAAI 2022. The flow maps a normally exposed image x
to a latent z of the same number of values; given the dark image, z is Gaussian with unit variance around the colour
map that the encoder predicts (equation 4). Training minimises the negative log-likelihood, enhancement decodes the
mean.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.llflow.config import LEVELS, SIZE_MULTIPLE, LLFlowConfig
from streamlight.models.llflow.encoder import ConditionalEncoder, Encoding, color_map_of
from streamlight.models.nn.flow import FlowStep, Squeeze, gaussian_log_likelihood


class ConditionalFlow(nn.Module):
    """Three levels of squeeze, plain steps and conditional steps; no channel is ever split off.

    Args:
        config: Hyper-parameters.
    """

    def __init__(self, config: LLFlowConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.levels: list[int] = []
        channels = 3
        for level in range(LEVELS):
            channels *= 4
            plain = [FlowStep(channels) for _ in range(config.plain_steps)]
            coupled = [FlowStep(channels, config.condition_channels, config.hidden) for _ in range(config.steps[level])]
            for layer in (Squeeze(), *plain, *coupled):
                self.layers.append(layer)
                self.levels.append(level)

    def encode(
        self, x: Tensor, conditions: tuple[Tensor, ...], logdet: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Image ``(N, 3, H, W)`` → latent ``(N, 192, H/8, W/8)``; adds to ``logdet``, ``(N,)``, unless that is None."""
        for layer, level in zip(self.layers, self.levels, strict=True):
            x, logdet = layer(x, conditions[level], logdet)
        return x, logdet

    def decode(
        self, z: Tensor, conditions: tuple[Tensor, ...], logdet: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Latent → image, the exact inverse of :meth:`encode`."""
        for layer, level in zip(reversed(self.layers), reversed(self.levels), strict=True):
            z, logdet = layer.inverse(z, conditions[level], logdet)  # type: ignore[operator]
        return z, logdet


class LLFlowNetwork(nn.Module):
    """Encoder and flow under their official names, for training and as the reference of the fast path.

    Args:
        config: Hyper-parameters.
    """

    def __init__(self, config: LLFlowConfig) -> None:
        super().__init__()
        self.RRDB = ConditionalEncoder(config)
        self.flowUpsamplerNet = ConditionalFlow(config)

    def forward(self, gt: Tensor, lq: Tensor, *, gt_mean: bool = False) -> Tensor:
        """The training loss per sample; see :meth:`negative_log_likelihood`."""
        return self.negative_log_likelihood(gt, lq, gt_mean=gt_mean)[0]

    def negative_log_likelihood(
        self, gt: Tensor, lq: Tensor, *, gt_mean: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Bits per pixel of a bright picture given the dark one (equation 3 of the paper).

        Args:
            gt: Bright picture, ``(N, 3, H, W)`` in [0, 1].
            lq: Network input of the dark picture, ``(N, 6, H, W)``.
            gt_mean: Centre the latent on the colour map of ``gt`` instead of the predicted one; training does so for
                a share of the batches.

        Returns:
            ``(nll, z, logdet)``; nll is ``-(logdet + ln p(z)) / (ln 2 · H · W)``, ``(N,)``.
        """
        return self.likelihood(gt, self.RRDB(lq), color_map=color_map_of(gt) if gt_mean else None)

    def likelihood(
        self, gt: Tensor, encoding: Encoding, *, color_map: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`negative_log_likelihood` for a dark picture that is encoded already.

        ``color_map`` takes the place of the predicted one; with noise on ``gt`` it must be that of the picture without.
        In float32 whatever autocast says: in float16 official training is known to end in NaN.
        """
        with torch.autocast(gt.device.type, enabled=False):
            encoding = encoding.wide()
            start = torch.zeros(gt.shape[0], device=gt.device, dtype=torch.promote_types(gt.dtype, torch.float32))
            z, logdet = self.flowUpsamplerNet.encode(gt, encoding.conditions, start)
            assert logdet is not None
            mean = latent_mean(encoding.color_map if color_map is None else color_map)
            bits = -(logdet + gaussian_log_likelihood(z, mean)) / (math.log(2.0) * gt.shape[-2] * gt.shape[-1])
        return bits, z, logdet

    def decode(self, z: Tensor, encoding: Encoding, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The picture of a latent, ``(N, 3, H, W)``, nominally in [0, 1], not clamped."""
        return self.flowUpsamplerNet.decode(z, encoding.conditions, logdet)


def latent_mean(color_map: Tensor) -> Tensor:
    """Space to depth by 8 in one go, channel ``64·c + 8·dy + dx``: not the order of three squeezes."""
    return F.pixel_unshuffle(color_map, SIZE_MULTIPLE)
