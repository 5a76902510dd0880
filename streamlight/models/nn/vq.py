"""Vector quantisation with a learned codebook (van den Oord et al., VQ-VAE, arXiv:1711.00937)."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

_DISTANCES: Final = 16 * 2**20
"""Largest number of distances held at a time (a block of positions times all codes)."""

_DISTANCES_ON_DEVICE: Final = 4 * _DISTANCES
"""The same elsewhere than on a CPU: 256 MiB, as short pieces of work do not fill a device."""


class Quantized(NamedTuple):
    """Result of :class:`VectorQuantizer`.

    Attributes:
        values: The codes, ``(N, D, H, W)``; their gradient goes straight through to the input.
        indices: Which codes, ``(N, H, W)`` int64.
        loss: Codebook and commitment loss, a scalar (0 outside of gradient mode).
    """

    values: Tensor
    indices: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    """Replaces every vector of a feature map by its nearest code (squared Euclidean distance).

    Args:
        codes: Number of codes.
        channels: Length of a code.
        commitment: Weight of the term that pulls the encoder to the codes.
    """

    def __init__(self, codes: int, channels: int, *, commitment: float = 0.25) -> None:
        super().__init__()
        self.commitment = commitment
        self.embedding = nn.Embedding(codes, channels)
        nn.init.uniform_(self.embedding.weight, -1.0 / codes, 1.0 / codes)

    def forward(self, z: Tensor) -> Quantized:
        """Quantise ``z``.

        Args:
            z: ``(N, D, H, W)``.

        Returns:
            The codes with straight-through gradient, their indices, and the loss
            ``mean((e - sg(z))²) + commitment · mean((sg(e) - z)²)`` (VQ-VAE, eq. 3).
        """
        indices = self.nearest(z)
        codes = self.embedding(indices).permute(0, 3, 1, 2).to(z.dtype)
        loss = (codes - z.detach()).square().mean() + self.commitment * (codes.detach() - z).square().mean()
        return Quantized(z + (codes - z).detach(), indices, loss)

    def lookup(self, z: Tensor, indices: Tensor | None = None) -> Tensor:
        """The nearest codes, or those of ``indices``, ``(N, D, H, W)``, exact and without loss."""
        indices = self.nearest(z) if indices is None else indices
        return self.embedding(indices).permute(0, 3, 1, 2).to(z.dtype)

    @torch.no_grad()
    def hold(self, z: Tensor, indices: Tensor, before: Tensor, *, margin: Tensor) -> Tensor:
        """Hysteresis: a code changes only where the new one is nearer by a margin.

        Args:
            z: ``(N, D, H, W)``.
            indices: Of the nearest codes, ``(N, H, W)``.
            before: Those held so far, likewise.
            margin: Share of its squared distance by which the new code must be nearer, 0 (always change) to 1,
                ``(N, H, W)`` or broadcastable.

        Returns:
            ``(N, H, W)`` int64.
        """
        positions = z.movedim(1, -1).float()
        new, old = ((positions - self.embedding(choice).float()).square().sum(-1) for choice in (indices, before))
        return torch.where(new < (1.0 - margin) * old, indices, before)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Indices of the nearest codes, ``(N, H, W)`` int64.

        ``|e|² - 2 z·e`` orders codes as the distance does; positions are taken in blocks, in float32.
        """
        codes = self.embedding.weight.float()
        squares = codes.square().sum(1)
        count, channels, height, width = z.shape
        flat = z.permute(0, 2, 3, 1).reshape(-1, channels).float()
        distances = _DISTANCES if z.device.type == "cpu" else _DISTANCES_ON_DEVICE
        rows = max(1, distances // codes.shape[0])
        parts = [torch.addmm(squares, part, codes.t(), alpha=-2.0).argmin(1) for part in flat.split(rows)]
        return torch.cat(parts).view(count, height, width)
