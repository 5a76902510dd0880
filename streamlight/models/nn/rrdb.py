"""Residual in residual dense blocks (Wang et al., ESRGAN, arXiv:1809.00219, section 3.1)."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE: Final = 0.2
"""Slope of every leaky ReLU for negative input."""

RESIDUAL: Final = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each reading the input and all outputs before it; a fifth of the last is added to the input.

    Args:
        channels: Channels in and out.
        growth: Channels that each of the first four convolutions adds.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for index in range(5):
            out = growth if index < 4 else channels
            setattr(self, f"conv{index + 1}", nn.Conv2d(channels + index * growth, out, 3, padding=1))
        for conv in self.convolutions():
            if not conv.weight.is_meta:
                nn.init.kaiming_normal_(conv.weight, a=0, mode="fan_in")
                conv.weight.data.mul_(0.1)
                assert conv.bias is not None
                nn.init.zeros_(conv.bias)

    def convolutions(self) -> list[nn.Conv2d]:
        """conv1 to conv5."""
        return [self.get_submodule(f"conv{index}") for index in range(1, 6)]  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → the same shape."""
        *growing, last = self.convolutions()
        features = x
        for conv in growing:
            features = torch.cat([features, F.leaky_relu(conv(features), SLOPE)], 1)
        return torch.add(x, last(features), alpha=RESIDUAL)


class RRDB(nn.Module):
    """Three dense blocks in sequence; a fifth of their output is added to the input.

    Args:
        channels: Channels in and out.
        growth: Growth of each dense block.
    """

    def __init__(self, channels: int, growth: int = 32) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(channels, growth)
        self.RDB2 = DenseBlock(channels, growth)
        self.RDB3 = DenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → the same shape."""
        return torch.add(x, self.RDB3(self.RDB2(self.RDB1(x))), alpha=RESIDUAL)
