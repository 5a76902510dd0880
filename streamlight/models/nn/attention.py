"""Single-head self-attention over all positions of a feature map, in bounded memory."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.nn.resblock import group_norm

_QUERIES: Final = 1024
_KEYS: Final = 2048
"""Queries and keys per block: their scores stay in the cache, and each product is large enough to run at speed
(measured with 4,000 to 59,000 positions of 128 and 512 channels)."""


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
        ``(N, P, C)``. On the CPU without gradients queries and keys are taken in blocks, so that memory does not grow
        with ``P·Q``; elsewhere torch's fused attention does the same.
    """
    if torch.is_grad_enabled() or query.device.type != "cpu":
        # With channels anywhere but innermost the fused kernels refuse, and the scores would be held whole.
        query, key, value = (part[:, None].contiguous() for part in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value)[:, 0]
    scale = query.shape[-1] ** -0.5
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    for queries, keys, values, into in zip(query, key, value, out, strict=True):
        blocks = list(zip(keys.split(_KEYS), (part.t().contiguous() for part in values.split(_KEYS)), strict=True))
        for part, place in zip(queries.split(_QUERIES), into.split(_QUERIES), strict=True):
            place.copy_(_attend_blocks(part * scale, blocks))
    return out


def _attend_blocks(queries: Tensor, blocks: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``softmax(queries · keysᵀ) · values`` over blocks of keys and transposed values.

    The softmax is carried along (Milakov & Gimelshein, arXiv:1805.02867; Rabe & Staats, arXiv:2112.05682): where a
    block brings a larger score, what was summed before is scaled down. Sums are float32 at least.
    """
    wide = torch.promote_types(queries.dtype, torch.float32)
    largest = queries.new_full((len(queries), 1), -torch.inf)
    total = torch.zeros_like(largest, dtype=wide)
    mixed = torch.zeros_like(queries, dtype=wide)
    for keys, columns in blocks:
        scores = matmul_t(queries, keys)
        before, largest = largest, torch.maximum(largest, scores.amax(1, keepdim=True))
        weights = scores.sub_(largest).exp_()
        kept = (before - largest).exp_().to(wide)
        total.mul_(kept).add_(weights.sum(1, keepdim=True, dtype=wide))
        mixed.mul_(kept).add_(matmul_t(weights, columns))
    return mixed.div_(total)


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
