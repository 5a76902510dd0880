"""GuidedTransfer: what a model decided on a small copy, carried out on the full-resolution planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from streamlight.engine.rows import RowPool
from streamlight.enhance.transfer import kernels
from streamlight.enhance.transfer.geometry import FrameGeometry, PlaneGeometry

_RADIUS = (1, 2, 2)
"""Window radius of the fit, luma and chroma, in cells of the small copy."""


@dataclass(frozen=True, slots=True)
class AffineMaps:
    """Per plane, ``out = gain·in + bias`` in code values, on the small grid.

    Attributes:
        gain: One ``(h + 1, w + 1)`` float32 array a plane; the last row and column repeat the one before.
        bias: Likewise.
    """

    gain: tuple[np.ndarray, ...]
    bias: tuple[np.ndarray, ...]


class GuidedTransfer:
    """Local affine maps from a dark small copy to a bright one, applied to decoded planes.

    A fast guided filter (He & Sun, arXiv:1505.00996) per plane: ``bright ≈ A·dark + B`` by least squares in small
    windows, A and B averaged over the same windows, then interpolated bilinearly to full size. With ``eps`` near the
    noise variance A is a Wiener gain: it vanishes where the small pictures are flat, and the noise of the full-size
    frame with it; at edges it is the model's gain, and the detail comes from the camera.

    Args:
        geometry: Frame format and small grid.
        rows: Threads for the kernels.
    """

    def __init__(self, geometry: FrameGeometry, rows: RowPool) -> None:
        self.geometry = geometry
        self._rows = rows

    def shrink(self, planes: tuple[np.ndarray, ...]) -> Tensor:
        """The small copy of decoded planes, ``(3, h, w)`` float32 normalised YCbCr; chroma 0 if there is none."""
        small = np.zeros((3, self.geometry.height, self.geometry.width), np.float32)
        for plane, shape, out in zip(planes, self.geometry.planes, small, strict=False):
            grid = (shape.width, shape.factor_x, shape.factor_y, shape.offset, shape.span)
            self._rows.run(partial(kernels.shrink_rows, _full_rows(plane), *grid, out), self.geometry.height)
        return torch.from_numpy(small)

    def fit(self, dark: Tensor, bright: Tensor, *, eps: tuple[float, float]) -> AffineMaps:
        """Fit the maps.

        Args:
            dark: Small copy, ``(3, h, w)`` float32, normalised YCbCr.
            bright: What it should become, same shape.
            eps: Regularisation for luma and chroma, squared normalised units; > 0.
        """
        gains, biases = [], []
        height, width = self.geometry.height, self.geometry.width
        for index, plane in enumerate(self.geometry.planes):
            guide, target = dark[index].numpy(), bright[index].contiguous().numpy()
            radius, strength = _RADIUS[index], eps[min(index, 1)]
            a, b = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
            gain, bias = (np.empty((height + 1, width + 1), np.float32) for _ in range(2))
            self._rows.run(partial(kernels.fit_rows, guide, target, radius, strength, a, b), height)
            self._rows.run(partial(_smooth, plane, radius, a, b, gain, bias), height)
            gains.append(gain)
            biases.append(bias)
        return AffineMaps(tuple(gains), tuple(biases))

    def apply(self, planes: tuple[np.ndarray, ...], maps: AffineMaps) -> tuple[np.ndarray, ...]:
        """``out = A↑·in + B↑``, rounded and clamped, as new planes of the same type."""
        return tuple(
            self._one_plane(plane, shape, maps.gain[i], maps.bias[i])
            for i, (plane, shape) in enumerate(zip(planes, self.geometry.planes, strict=True))
        )

    def filter_apply(
        self,
        planes: tuple[np.ndarray, ...],
        maps: AffineMaps,
        *,
        memory: list[np.ndarray],
        gate: Tensor,
        threshold: float,
    ) -> tuple[np.ndarray, ...]:
        """:meth:`apply` behind a motion-gated recursive filter, in one pass over each plane.

        Args:
            planes: Decoded planes.
            maps: From :meth:`fit`.
            memory: Filtered planes from :meth:`remember`; updated in place.
            gate: Weight of the new frame, ``(h, w)`` float32 in (0, 1].
            threshold: A sample that differs from its memory by more than this many 8-bit codes is followed faster.
        """
        padded = np.pad(gate.numpy(), ((0, 1), (0, 1)), mode="edge")
        return tuple(
            self._one_plane(plane, shape, maps.gain[i], maps.bias[i], (memory[i], padded, threshold))
            for i, (plane, shape) in enumerate(zip(planes, self.geometry.planes, strict=True))
        )

    def remember(self, planes: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """Start the memory of :meth:`filter_apply` with these planes, as 16-bit fixed point."""
        return [
            plane.astype(np.uint16) * np.uint16(_fraction(shape))
            for plane, shape in zip(planes, self.geometry.planes, strict=True)
        ]

    def _one_plane(
        self,
        plane: np.ndarray,
        shape: PlaneGeometry,
        gain: np.ndarray,
        bias: np.ndarray,
        recursion: tuple[np.ndarray, np.ndarray, float] | None = None,
    ) -> np.ndarray:
        source = _full_rows(plane)
        out = np.empty((shape.height, shape.width), plane.dtype)
        grid = (shape.factor_x, *shape.rows, *shape.columns, shape.peak)

        if recursion is None:
            band = partial(kernels.apply_rows, source, shape.width, gain, bias, *grid, out)
        else:
            memory, gate, threshold = recursion
            codes = threshold * (shape.peak + 1) / 256.0
            filtered = (memory, _fraction(shape), codes, gate)
            band = partial(kernels.filter_apply_rows, source, shape.width, *filtered, gain, bias, *grid, out)
        self._rows.run(band, shape.height)
        return out


def _fraction(shape: PlaneGeometry) -> int:
    """Fixed-point units a code in the memory: what 16 bits leave."""
    return 65536 // (shape.peak + 1)


def _smooth(
    plane: PlaneGeometry,
    radius: int,
    a: np.ndarray,
    b: np.ndarray,
    gain: np.ndarray,
    bias: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Average the maps over their windows and turn normalised units into code values."""
    kernels.smooth_rows(a, radius, gain, start, stop)
    kernels.smooth_rows(b, radius, bias, start, stop)
    last = gain.shape[0] if stop == a.shape[0] else stop
    rows = bias[start:last]
    rows *= plane.span
    rows += plane.offset * (1.0 - gain[start:last])


def _full_rows(plane: np.ndarray) -> np.ndarray:
    """The same memory as a C-contiguous array that includes the padding behind each row."""
    pitch = plane.strides[0] // plane.itemsize
    if plane.strides[1] != plane.itemsize or plane.strides[0] % plane.itemsize or pitch < plane.shape[1]:
        return np.ascontiguousarray(plane)
    return np.lib.stride_tricks.as_strided(plane, (plane.shape[0], pitch), plane.strides, writeable=False)
