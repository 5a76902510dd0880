"""Single-head self-attention over all positions of a feature map, in bounded memory."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.nn.resblock import group_norm

_QUERIES: Final = 1024
"""Queries per block. Keys and values are laid out anew for every block, which small blocks do not pay for; larger ones
gain nothing (measured with 6,000 and 16,000 positions of 128 and 512 channels)."""

_SCORES: Final = 96 * 2**20
"""Largest number of scores held at a time (a block of queries times all keys)."""


class SpatialAttention(nn.Module):
    """``x + proj_out(attention(q, k, v))`` with 1×1 projections of the normalised input.

    Softmax over the keys of ``q·k / sqrt(C)``, one head, every position attends to every other (VQGAN,
    arXiv:2012.09841; DDPM, arXiv:2006.11239). The matrix of scores is never held whole.
    """

    def __init__(self, channels: int, *, groups: int = 32) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same shape."""
        n = self.norm(x)
        mixed = attend(_positions(self.q(n)), _positions(self.k(n)), _positions(self.v(n)))
        mixed = mixed.transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(mixed)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(query · keyᵀ / sqrt(C)) · value`` over the last two dimensions.

    Args:
        query: ``(N, P, C)``.
        key: ``(N, Q, C)``.
        value: ``(N, Q, C)``.

    Returns:
        ``(N, P, C)``. On the CPU without gradients the queries are taken in blocks, so that memory grows with ``Q`` and
        not with ``P·Q``; elsewhere torch's fused attention does the same.
    """
    if torch.is_grad_enabled() or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
    scale = query.shape[-1] ** -0.5
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    rows = max(1, min(_QUERIES, _SCORES // key.shape[1]))
    for queries, keys, values, into in zip(query, key, value, out, strict=True):
        columns = values.t().contiguous()
        for start in range(0, queries.shape[0], rows):
            weights = torch.softmax(matmul_t(queries[start : start + rows] * scale, keys), dim=-1)
            into[start : start + rows] = matmul_t(weights, columns)
    return out


def matmul_t(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b.T`` for 2-D tensors by whichever of torch's two CPU back ends is the fast one.

    Matrix products in float32 go to MKL, which takes its slow path on processors not made by Intel; 1×1 convolutions go
    to oneDNN, which does not (measured: about twice as fast on an AMD EPYC with AVX-512).
    """
    if a.dtype != torch.float32 or a.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return a @ b.t()
    a, b = a.contiguous(), b.contiguous()
    (rows, inner), columns = a.shape, b.shape[0]
    image = a.as_strided((1, inner, rows, 1), (rows * inner, 1, inner, inner))
    kernels = b.as_strided((columns, inner, 1, 1), (inner, 1, inner, inner))
    # On one thread torch leaves 1×1 convolutions to MKL too, unless they are dilated, which for 1×1 means nothing.
    return F.conv2d(image, kernels, dilation=2).permute(0, 2, 3, 1).reshape(rows, columns)


def _positions(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` as ``(N, H·W, C)``."""
    return x.flatten(2).transpose(1, 2)
