"""Histograms of 8-bit pictures, on any device and without waiting for it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from streamlight.models.nn.kernels import Kernels

KERNELS: Final = Kernels()
"""How histograms are taken on CUDA."""


def histograms(codes: Tensor, *, kernels: Kernels = KERNELS) -> Tensor:
    """How often each code occurs in each row.

    On CUDA torch's scatter spends a global atomic and sixteen bytes of indices and ones on every pixel, and those of a
    dark picture queue up at a few counters; a kernel counts in blocks instead.

    Args:
        codes: ``(rows, pixels)`` uint8; what is not contiguous is copied.
        kernels: Triton or torch.

    Returns:
        ``(rows, 256)`` int64.
    """

    def compiled() -> Tensor:
        from streamlight.models.nn.histogram_kernels import count_blocks

        return count_blocks(codes.contiguous()).sum(1)

    def plain() -> Tensor:
        counts = torch.zeros(codes.shape[0], 256, dtype=torch.int64, device=codes.device)
        index = codes.long()
        return counts.scatter_add_(1, index, torch.ones_like(index))

    return kernels.run(codes, compiled, plain)
