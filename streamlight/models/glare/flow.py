"""Stage II: conditional encoder and invertible latent normalizing flow (I-LNF; GLARE, section 3.2).

The flow carries the latent of a normally lit picture to a Gaussian whose mean the dark picture predicts. It keeps
resolution and channels: no squeeze, no split.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from streamlight.models.glare.autoencoder import Encoder
from streamlight.models.glare.config import AutoencoderConfig, FlowConfig
from streamlight.models.nn.flow import FlowStep, gaussian_log_likelihood


class Conditioning(NamedTuple):
    """What the conditional encoder says about a dark picture.

    Attributes:
        features: ``c_ll``, what every coupling sees: ``(N, C, h, w)`` in (0, 1).
        mean: ``z_ll``, mean of the Gaussian: ``(N, z, h, w)``.
        taps: Features F0, F1, … of the encoder's levels but the coarsest, for the fusion decoder.
    """

    features: Tensor
    mean: Tensor
    taps: list[Tensor]


class ConditionalEncoder(nn.Module):
    """Encoder of the dark picture with two heads (key ``RRDB``, a name that GLARE's files inherited)."""

    def __init__(self, config: AutoencoderConfig, condition_channels: int) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.color_conv = nn.Conv2d(config.z_channels, config.z_channels, 3, padding=1)
        self.cond_conv = nn.Sequential(nn.Conv2d(config.z_channels, condition_channels, 3, padding=1), nn.Sigmoid())

    def forward(self, log_low: Tensor, *, taps: bool = True) -> Conditioning:
        """Encode.

        Args:
            log_low: ``(N, 3, H, W)``, ``ln(low + 0.001)``, sizes multiples of the stride.
            taps: Whether to keep the features for the fusion decoder.
        """
        encoded, features = self.encoder(log_low, taps=taps)
        encoded = encoded.to(self.color_conv.weight.dtype)
        return Conditioning(self.cond_conv(encoded), self.color_conv(encoded), features)


class LatentFlow(nn.Module):
    """The invertible steps: ``groups`` times ``plain`` steps without and ``coupled`` steps with a coupling."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        group = [None] * config.plain + [config.condition_channels] * config.coupled
        self.layers = nn.ModuleList(
            FlowStep(config.channels, condition, config.hidden) for condition in group * config.groups
        )

    @property
    def steps(self) -> list[FlowStep]:
        """The steps in the order of :meth:`forward`."""
        return cast(list[FlowStep], list(self.layers))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.steps[0].invconv.weight.dtype

    def forward(self, z: Tensor, condition: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Latent to Gaussian.

        Args:
            z: ``(N, z, h, w)``.
            condition: ``c_ll``, ``(N, C, h, w)``.
            logdet: Running log-determinants ``(N,)``; None to skip them.

        Returns:
            The Gaussian variable, of the shape of ``z``, and the log-determinants.
        """
        for layer in self.steps:
            z, logdet = layer(z, condition, logdet)
        return z, logdet

    def inverse(self, z: Tensor, condition: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Gaussian to latent; arguments as of :meth:`forward`."""
        for layer in reversed(self.steps):
            z, logdet = layer.inverse(z, condition, logdet)
        return z, logdet

    def negative_log_likelihood(self, latent: Tensor, condition: Tensor, mean: Tensor) -> Tensor:
        """Negative log-likelihood of ``latent`` in bits per position (GLARE, eq. 4; not divided by the channels).

        Args:
            latent: Latent of the normally lit picture, ``(N, z, h, w)``.
            condition: ``c_ll``.
            mean: Mean of the Gaussian, ``(N, z, h, w)``.

        Returns:
            ``(N,)``; in the type of the flow's weights whatever autocast says: float16 is where official training
            diverges.
        """
        with torch.autocast(latent.device.type, enabled=False):
            latent, condition, mean = (value.to(self.dtype) for value in (latent, condition, mean))
            z, logdet = self(latent, condition, latent.new_zeros(latent.shape[0]))
            assert logdet is not None
            likelihood = logdet + gaussian_log_likelihood(z, mean)
        return -likelihood / (math.log(2.0) * latent.shape[-2] * latent.shape[-1])
