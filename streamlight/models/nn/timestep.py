"""The time step of a diffusion process as a vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of the time step (Vaswani et al., arXiv:1706.03762, section 3.5; DDPM, arXiv:2006.11239).

    Half of the entries are sines, half cosines, at frequencies from 1 down to 1/10000, both included.

    Args:
        t: Time steps, ``(N,)``, any numeric type.
        dim: Length of the vector, at least 4.

    Returns:
        ``(N, dim)`` float32: ``[sin(t·f), cos(t·f)]``, a zero at the end where ``dim`` is odd.
    """
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000) / (half - 1)))
    angles = t.float()[:, None] * frequencies[None]
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim % 2))


class TimeEmbedding(nn.Module):
    """Time step → sinusoids → two linear layers with a swish between them.

    Args:
        dim: Length of the sinusoidal vector; the result has four times as many entries.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.dense = nn.ModuleList([nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, 4 * dim)])

    def forward(self, t: Tensor) -> Tensor:
        """Embed time steps ``(N,)`` as ``(N, 4·dim)``, in the type of the weights."""
        first, second = self.dense
        return second(F.silu(first(timestep_embedding(t, self.dim).to(next(self.parameters()).dtype))))
