"""GLARE's networks joined: what one dark picture goes through (Zhou et al., ECCV 2024, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from streamlight.models.glare.config import GlareConfig
from streamlight.models.glare.flow import ConditionalEncoder, Conditioning, LatentFlow
from streamlight.models.glare.fusion import FusionDecoder
from streamlight.models.glare.vqgan import VQGAN, NormalLightPrior
from streamlight.models.protocol import Recall

LOG_OFFSET = 1e-3
"""Added before the logarithm of the input."""


class GlareNetwork(nn.Module):
    """Conditional encoder, latent flow, codebook with normal-light decoder, and fusion decoder.

    Attribute names are those of the official files; :attr:`vqgan` lies in a file of its own there and is None where
    only the other is at hand, ``deformable_decoder`` is None in stage II files.
    """

    def __init__(self, config: GlareConfig) -> None:
        super().__init__()
        assert config.flow is not None
        self.config = config
        self.RRDB = ConditionalEncoder(config.autoencoder, config.flow.condition_channels)
        self.deformable_decoder = FusionDecoder(config.autoencoder) if config.stage == 3 else None
        self.flowUpsamplerNet = LatentFlow(config.flow)
        self.vqgan: NormalLightPrior | None = (
            NormalLightPrior(config.autoencoder, config.codes) if config.codes else None
        )

    def encode(self, low: Tensor) -> Conditioning:
        """Conditional encoder on the dark picture.

        Args:
            low: ``(N, 3, H, W)`` float, RGB in [0, 1], sizes multiples of the config's stride.
        """
        return self.RRDB(log_picture(low), taps=self.deformable_decoder is not None)

    def latent(self, z: Tensor, conditioning: Conditioning) -> Tensor:
        """Inverse flow: Gaussian ``z`` to the latent ``z'`` of a normally lit picture; same shape.

        In the type of the flow's weights whatever autocast says, as a latent that moves a little picks another code.
        """
        flow = self.flowUpsamplerNet
        with torch.autocast(z.device.type, enabled=False):
            return flow.inverse(z.to(flow.dtype), conditioning.features.to(flow.dtype))[0]

    def choose(self, latent: Tensor, recall: Recall) -> Tensor:
        """Codes for the latent of one frame, ``(1, h, w)``: those of the frame before where nothing is much nearer."""
        quantizer = self._normal_light().quantize
        codes = quantizer.nearest(latent)
        before = recall.past.get("codes")
        if before is not None and before.shape == codes.shape:
            codes = quantizer.hold(latent, codes, before, margin=recall.trust(*codes.shape[-2:])[:, 0])
        recall.left["codes"] = codes
        return codes

    def restore(
        self,
        latent: Tensor,
        conditioning: Conditioning,
        *,
        fidelity: float | Sequence[float] | None = None,
        codebook: float = 1.0,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Decode the latent: dual decoder with feature fusion, or the normal-light decoder alone at stage II.

        Args:
            latent: ``z'``, ``(N, z, h, w)``.
            conditioning: What :meth:`encode` returned.
            fidelity: See :meth:`FusionDecoder.fuse`; has no effect at stage II.
            codebook: See :meth:`FusionDecoder.fuse`; has no effect at stage II.
            codes: Indices to take instead of the nearest codes, ``(N, h, w)``.

        Returns:
            ``(N, 3, H, W)`` float32, not clamped.
        """
        prior = self._normal_light()
        if self.deformable_decoder is None:
            return prior.decoder(prior.lookup(latent, codes))
        normal = prior.decoder.features(prior.lookup(latent, codes))
        return self.deformable_decoder.fuse(latent, normal, conditioning.taps, fidelity=fidelity, codebook=codebook)

    def forward(self, low: Tensor) -> Tensor:
        """Enhance without sampling (z = z_ll), as published; with gradients, the training forward of stage III.

        At stage III only the fusion decoder learns (GLARE, section 3.4): see :func:`trainable`.

        Args:
            low: ``(N, 3, H, W)`` float, RGB in [0, 1].

        Returns:
            ``(N, 3, H, W)``, not clamped.
        """
        if self.training and self.deformable_decoder is not None:
            with torch.no_grad():
                conditioning = self.encode(low)
                latent = self.latent(conditioning.mean, conditioning)
                prior = self._normal_light()
                normal = prior.decoder.features(prior.lookup(latent))
            return self.deformable_decoder.fuse(latent, normal, conditioning.taps)
        conditioning = self.encode(low)
        return self.restore(self.latent(conditioning.mean, conditioning), conditioning)

    def negative_log_likelihood(self, low: Tensor, latent: Tensor, *, mean_is_latent: bool = False) -> Tensor:
        """Loss of stage II per picture, in bits per latent position (GLARE, eq. 4).

        Args:
            low: Dark pictures, ``(N, 3, H, W)``, RGB in [0, 1].
            latent: ``VQGAN.encode`` of the normally lit pictures, ``(N, z, h, w)``.
            mean_is_latent: Take the latent itself for the mean of the Gaussian, as official training does for one
                batch in five.

        Returns:
            ``(N,)``; its mean is the loss.
        """
        conditioning = self.RRDB(log_picture(low), taps=False)
        mean = latent if mean_is_latent else conditioning.mean
        return self.flowUpsamplerNet.negative_log_likelihood(latent, conditioning.features, mean)

    def _normal_light(self) -> NormalLightPrior:
        if self.vqgan is None:
            raise RuntimeError("this GlareNetwork was built without codebook and normal-light decoder (config.codes)")
        return self.vqgan


def build_network(config: GlareConfig) -> nn.Module:
    """The network that a weights file of this kind fills: a :class:`VQGAN` at stage 1, else :class:`GlareNetwork`."""
    return VQGAN(config.autoencoder, config.codes) if config.stage == 1 else GlareNetwork(config)


def log_picture(low: Tensor) -> Tensor:
    """``ln(max(low + 0.001, 0.001))``: the encoder's input, in [-6.908, 0.001] for ``low`` in [0, 1]."""
    return (low + LOG_OFFSET).clamp_min(LOG_OFFSET).log()


def trainable(network: GlareNetwork, stage: int) -> list[nn.Parameter]:
    """Switch gradients on for what a stage trains, off for the rest (GLARE, section 3.4).

    Args:
        network: The network.
        stage: 2 (conditional encoder and flow) or 3 (fusion decoder). Stage 1 trains a :class:`VQGAN` whole.

    Returns:
        The parameters that learn.
    """
    learns = ("RRDB.", "flowUpsamplerNet.") if stage == 2 else ("deformable_decoder.",)
    chosen = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(learns))
        if parameter.requires_grad:
            chosen.append(parameter)
    return chosen


_NARROW = ("mid", "up", "offset", "conv_offset")


def set_precision(network: GlareNetwork, dtype: torch.dtype) -> None:
    """Put the wide layers of the two decoders into ``dtype`` and leave the rest in float32.

    Float32 stay the conditional encoder and the flow, because a latent that moves a little picks another code (with
    the encoder in bfloat16 a few per cent of them, which costs more than 10 dB); the decoders' first and last layers;
    AMB weights; and the deformable sampling and convolution.
    """
    for name, module in network.named_modules():
        parts = name.split(".")
        inside = name.startswith(("vqgan.decoder.", "deformable_decoder."))
        if inside and parts[-1] in _NARROW and not any(part in _NARROW for part in parts[:-1]):
            cast(nn.Module, module).to(dtype)
