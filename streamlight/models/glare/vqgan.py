"""Stage I: the VQGAN of normally lit pictures (GLARE, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.glare.autoencoder import Decoder, Encoder
from streamlight.models.glare.config import AutoencoderConfig
from streamlight.models.nn.vq import Quantized, VectorQuantizer


class VQOutput(NamedTuple):
    """What the VQGAN makes of a picture in training.

    Attributes:
        image: Reconstruction, ``(N, 3, H, W)``, not clamped.
        latent: Latent before quantisation, ``(N, z, h, w)``.
        quantized: Codes, indices and loss of the quantiser.
    """

    image: Tensor
    latent: Tensor
    quantized: Quantized


class NormalLightPrior(nn.Module):
    """Codebook and normal-light decoder: the half of the VQGAN that enhancement needs.

    Args:
        config: Shape of the decoder.
        codes: Number of codes.
    """

    def __init__(self, config: AutoencoderConfig, codes: int) -> None:
        super().__init__()
        self.decoder = Decoder(config)
        self.quantize = VectorQuantizer(codes, config.z_channels)
        self.post_quant_conv = nn.Conv2d(config.z_channels, config.z_channels, 1)

    def decode(self, latent: Tensor) -> tuple[Tensor, Quantized]:
        """Quantise and decode.

        Args:
            latent: ``(N, z, h, w)``, before quantisation.

        Returns:
            Image ``(N, 3, H, W)``, not clamped, and what the quantiser returned.
        """
        quantized = self.quantize(latent)
        return self.decoder(self.post_quant_conv(quantized.values)), quantized

    def lookup(self, latent: Tensor, codes: Tensor | None = None) -> Tensor:
        """Input of the decoder: the nearest codes, or ``codes``, through the 1×1 convolution, in float32."""
        return self.post_quant_conv(self.quantize.lookup(latent, codes))


class VQGAN(NormalLightPrior):
    """The whole autoencoder. Pictures are RGB in [0, 1], with neither logarithm nor shift."""

    def __init__(self, config: AutoencoderConfig, codes: int) -> None:
        super().__init__(config, codes)
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.z_channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """Latent before quantisation, the target of the flow at stage II: ``(N, 3, H, W)`` to ``(N, z, h, w)``."""
        return self.quant_conv(self.encoder(image, taps=False)[0])

    def forward(self, image: Tensor) -> VQOutput:
        """Encode, quantise and decode ``image``, ``(N, 3, H, W)`` in [0, 1], sizes multiples of the stride."""
        latent = self.encode(image)
        decoded, quantized = self.decode(latent)
        return VQOutput(decoded, latent, quantized)


class SemanticHead(nn.Module):
    """Optional stage I term that ties codes to VGG19 features (key ``conv_semantic`` in official files).

    Args:
        z_channels: Length of a code.
        channels: Channels of the VGG features (``relu3_4``).
    """

    def __init__(self, z_channels: int = 3, channels: int = 256) -> None:
        super().__init__()
        self.conv_semantic = nn.Sequential(nn.Conv2d(z_channels, channels, 1), nn.ReLU())

    def forward(self, quantized: Tensor, features: Tensor) -> Tensor:
        """Mean squared difference of ``relu(conv1x1(q))`` and VGG ``features`` of the same size, a scalar.

        The features must not carry gradients; the official weight of this term is 0.1.
        """
        return F.mse_loss(self.conv_semantic(quantized), features)
