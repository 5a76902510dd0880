"""Group-norm residual block, and the down- and upsampling that go with it.

The convolutional half of the autoencoders of Esser et al. (VQGAN, arXiv:2012.09841) and of the denoising U-Net of
Ho et al. (DDPM, arXiv:2006.11239); both use the same block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.nn.norm import GroupNorm


def group_norm(channels: int, groups: int = 32) -> GroupNorm:
    """Group normalisation with the epsilon that both papers' networks use (1e-6)."""
    return GroupNorm(groups, channels, eps=1e-6, affine=True)


def swish(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``; overwrites ``x`` where no gradient is recorded."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """``shortcut(x) + conv2(swish(norm2(conv1(swish(norm1(x))) [+ embedding])))``, all 3×3.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; a 1×1 convolution ``nin_shortcut`` joins them where they differ.
        embedding_channels: Width of the time embedding; 0 for a block without one.
        groups: Groups of the two normalisations.
    """

    def __init__(self, in_channels: int, out_channels: int, *, embedding_channels: int = 0, groups: int = 32) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if embedding_channels:
            self.temb_proj = nn.Linear(embedding_channels, out_channels)
        self.norm2 = group_norm(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: ``(N, in_channels, H, W)``.
            embedding: Time embedding ``(N, embedding_channels)``, or ``(1, …)`` for all; None without one.

        Returns:
            ``(N, out_channels, H, W)``, a new tensor.
        """
        h = swish(self.norm1(x))
        if embedding is None:
            h = self.conv1(h)
        else:
            shift = self.temb_proj(F.silu(embedding))
            if len(shift) == 1:  # one for all pictures is a bias
                h = F.conv2d(h, self.conv1.weight, self.conv1.bias + shift[0], padding=1)
            else:
                h = self.conv1(h) + shift[:, :, None, None]
        h = self.conv2(swish(self.norm2(h)))
        shortcut = x if self.nin_shortcut is None else self.nin_shortcut(x)
        return h + shortcut if torch.is_grad_enabled() else h.add_(shortcut)


class Downsample(nn.Module):
    """Half the size: one zero row below and column to the right, then a 3×3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, H // 2, W // 2)``."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size: nearest neighbour, then a 3×3 convolution.

    Every output pixel sees a 2×2 window of the input only, with some of the nine weights falling on the same pixel.
    Where no gradient is needed the four output phases are therefore computed by four 2×2 convolutions of the small
    picture: 4/9 of the work and no enlarged copy; equal up to the order of summation. Elsewhere than on a CPU the four
    are one convolution, whose kernels are kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self._kept: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, 2H, 2W)``."""
        if torch.is_grad_enabled():
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self._by_phases(x)

    def _by_phases(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        channels = self.conv.weight.shape[0]
        shape = (count, channels, 2 * height, 2 * width)
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        if x.device.type == "cpu":
            phases = (F.conv2d(x, kernel, self.conv.bias, padding=1) for kernel in self._kernels(layout))
        else:
            phases = iter(F.conv2d(x, *self._joined(layout), padding=1).split(channels, 1))
        for index, phase in enumerate(phases):
            top, left = divmod(index, 2)
            out[:, :, top::2, left::2] = phase[:, :, top : top + height, left : left + width]
        return out

    def _joined(self, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
        """The kernels of all phases as one, and its bias; made anew where the weights are."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        version = None if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, weight.dtype, weight.device, layout)
        if self._kept is None or self._kept[0] != key:
            kernels = torch.cat(list(self._kernels(layout))).contiguous(memory_format=layout)
            self._kept = (key, kernels, bias.repeat(4))
        return self._kept[1:]

    def _kernels(self, layout: torch.memory_format) -> Iterator[Tensor]:
        """2×2 kernels of the phases: even and odd rows, in either even and odd columns."""
        weight = self.conv.weight
        # Rows 2i-1, 2i, 2i+1 of the enlarged picture are rows i-1, i, i of the small one; 2i, 2i+1, 2i+2 are i, i, i+1.
        rows = (
            torch.stack([weight[:, :, 0], weight[:, :, 1] + weight[:, :, 2]], 2),
            torch.stack([weight[:, :, 0] + weight[:, :, 1], weight[:, :, 2]], 2),
        )
        for row in rows:
            columns = (
                torch.stack([row[..., 0], row[..., 1] + row[..., 2]], 3),
                torch.stack([row[..., 0] + row[..., 1], row[..., 2]], 3),
            )
            for kernel in columns:
                yield kernel.contiguous(memory_format=layout)
