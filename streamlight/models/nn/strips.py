"""Chains of convolutions computed in strips of rows, so that what lies between two of them stays in the cache.

A 3x3 convolution of a full frame is bound by memory on a CPU: every layer writes and reads tens of megabytes. Done in
strips, with each layer one row behind the layer before it, only the chain's input and output travel. The numbers are
the same as for whole frames: every row is computed from the same neighbours. Channels lie innermost
(``channels_last``), so a strip of one picture is one piece of memory.

Other devices have no use for strips (:func:`in_strips`): there a layer takes a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.nn.bands import in_bands

STRIP_BYTES: Final = 8 << 20
"""What the buffer of one strip may take: it should stay in the last-level cache of a small machine."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Weight ``(out, in, kh, kw)`` and bias of a convolution, laid out for its device, in working precision."""

    weight: Tensor
    bias: Tensor | None = None

    @staticmethod
    def of(conv: nn.Conv2d, dtype: torch.dtype) -> Kernel:
        """A convolution's own weight and bias."""
        return Kernel.make(conv.weight, conv.bias, dtype)

    @staticmethod
    def make(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Kernel:
        """From loose tensors."""
        weight = weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        return Kernel(weight, None if bias is None else bias.detach().to(dtype))

    def __call__(self, x: Tensor, *, padding: int | tuple[int, int] | None = None) -> Tensor:
        """Convolve ``x``; zero padding keeps the size unless ``padding`` says otherwise."""
        if padding is None:
            padding = (self.weight.shape[-2] // 2, self.weight.shape[-1] // 2)
        return F.conv2d(x, self.weight, self.bias, padding=padding)


def in_strips(x: Tensor) -> bool:
    """Whether pictures like ``x`` are better computed in strips: on a CPU."""
    return x.device.type == "cpu"


def strip_rows(x: Tensor, row_bytes: int, *, overlap: int = 0, limit: int = STRIP_BYTES) -> int:
    """Rows per strip of a picture like ``x``, so that they and ``overlap`` further rows fit in ``limit`` bytes.

    At least 6; all rows at once elsewhere than on a CPU, where nothing is gained by strips.
    """
    return max(6, limit // max(1, row_bytes) - overlap) if in_strips(x) else 1 << 30


def empty(shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    """An uninitialised tensor with channels innermost, of the type and on the device of ``like``."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def rows_with_halo(x: Tensor, start: int, stop: int, halo: int) -> Tensor:
    """Rows ``start - halo`` to ``stop + halo`` of ``x``, ``(N, C, H, W)``; zeros beyond its border."""
    height = x.shape[-2]
    above, below = max(0, halo - start), max(0, stop + halo - height)
    part = x[:, :, max(0, start - halo) : min(height, stop + halo)]
    return F.pad(part, (0, 0, above, below)) if above or below else part


def dense_block(x: Tensor, kernels: list[Kernel], *, slope: float, residual: float, rows: int | None = None) -> Tensor:
    """A dense block (see :class:`streamlight.models.nn.rrdb.DenseBlock`), on a CPU in strips.

    The sum runs in float32 whatever the working precision, as 72 of them follow one another in LLFlow.

    Args:
        x: ``(N, C, H, W)`` float32, channels innermost.
        kernels: Its five convolutions, in working precision.
        slope: Slope of the leaky ReLU.
        residual: Weight of the last convolution in the sum.
        rows: Rows per strip; chosen from the width if None.

    Returns:
        ``(N, C, H, W)`` float32.
    """
    growth, channels = kernels[0].weight.shape[:2]
    width = channels + 4 * growth
    dtype = kernels[0].weight.dtype
    if not in_strips(x):
        features = x.to(dtype)
        for kernel in kernels[:-1]:
            features = torch.cat([features, F.leaky_relu_(kernel(features), slope)], 1)
        return torch.add(x, kernels[-1](features), alpha=residual)
    if rows is None:
        rows = strip_rows(x, x.shape[-1] * width * dtype.itemsize, overlap=_SKEW)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    for picture, result in zip(x.split(1), out.split(1), strict=True):

        def band(start: int, stop: int, picture: Tensor = picture, result: Tensor = result) -> None:
            _DenseStrips(picture, result, kernels, rows, slope, residual).run(start, stop)

        in_bands(x.shape[-2], band, device=x.device)
    return out


_SKEW: Final = 10
"""Rows of a strip's buffer beyond its new ones: five layers, each needing one row on either side."""


class _DenseStrips:
    """One picture's way through a dense block. Row r of the picture lies in row ``r - top`` of the buffer."""

    def __init__(self, x: Tensor, out: Tensor, kernels: list[Kernel], rows: int, slope: float, residual: float) -> None:
        self.x, self.out, self.kernels, self.slope, self.residual = x, out, kernels, slope, residual
        growth, self.channels = kernels[0].weight.shape[:2]
        self.ends = [self.channels + growth * layer for layer in range(5)]
        self.height, self.rows = x.shape[-2], rows

    def run(self, start: int, stop: int) -> None:
        """Compute rows ``start`` to ``stop``.

        They depend on five rows more on either side. Beyond those is taken for the picture's border; what is wrong
        about that reaches one row further with each layer, and just not the rows wanted.
        """
        self.keep = (start, stop)
        first, self.height = max(0, start - 5), min(self.height, stop + 5)
        capacity = min(self.rows + _SKEW, self.height - first + 2)
        shape = (1, capacity, self.x.shape[-1], self.ends[-1])
        self.buffer = self.x.new_empty(shape, dtype=self.kernels[0].weight.dtype)
        self.buffer[:, 0] = 0.0  # the row above the picture
        self.top = first - 1
        self.loaded = first
        self.done = [first] * 5
        while self.done[-1] < self.height:
            self._advance()
            self._load()
            ready = self.loaded
            for layer in range(5):
                stop = self.height if ready == self.height else ready - 1
                if stop > self.done[layer]:
                    self._convolve(layer, self.done[layer], stop)
                    self.done[layer] = stop
                ready = self.done[layer]

    def _advance(self) -> None:
        """Drop the rows that no layer needs any more; the last one is the furthest behind."""
        top = self.done[-1] - 1
        if top > self.top:
            last = self.loaded + (self.loaded == self.height)  # the row below the picture travels along
            kept = self.buffer[:, top - self.top : last - self.top].clone()
            self.buffer[:, : kept.shape[1]] = kept
            self.top = top

    def _load(self) -> None:
        """Fill the buffer with further rows of the input."""
        stop = min(self.height, self.top + self.buffer.shape[1])
        if stop > self.loaded:
            rows = self.x[:, :, self.loaded : stop].permute(0, 2, 3, 1)
            self.buffer[:, self.loaded - self.top : stop - self.top, :, : self.channels] = rows
            self.loaded = stop
        if self.loaded == self.height and self.height - self.top < self.buffer.shape[1]:
            self.buffer[:, self.height - self.top] = 0.0

    def _convolve(self, layer: int, start: int, stop: int) -> None:
        rows = slice(start - 1 - self.top, stop + 1 - self.top)
        y = self.kernels[layer](self.buffer[:, rows, :, : self.ends[layer]].permute(0, 3, 1, 2), padding=(0, 1))
        if layer < 4:
            target = self.buffer[:, start - self.top : stop - self.top, :, self.ends[layer] : self.ends[layer + 1]]
            target.copy_(F.leaky_relu_(y, self.slope).permute(0, 2, 3, 1))
        else:
            begin, end = max(start, self.keep[0]), min(stop, self.keep[1])
            if begin < end:
                y = y[:, :, begin - start : end - start]
                self.out[:, :, begin:end] = torch.add(self.x[:, :, begin:end], y, alpha=self.residual)


def collect(
    shape: tuple[int, int, int, int], like: Tensor, rows: int, strip: Callable[[int, int, int], Tensor]
) -> Tensor:
    """Put strips together to one tensor with channels innermost.

    Args:
        shape: Shape of the result, ``(N, C, H, W)``.
        like: Gives type and device.
        rows: Rows per strip.
        strip: ``strip(picture, start, stop)`` → ``(1, C, stop - start, W)``.
    """
    out = empty(shape, like)
    for picture in range(shape[0]):

        def band(first: int, last: int, picture: int = picture) -> None:
            for start in range(first, last, rows):
                stop = min(last, start + rows)
                out[picture : picture + 1, :, start:stop] = strip(picture, start, stop)

        in_bands(shape[2], band, device=like.device)
    return out
