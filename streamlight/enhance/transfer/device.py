"""The guided transfer on a device: tensors in, tensors out, and nothing that waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.enhance.transfer import reference
from streamlight.enhance.transfer.geometry import FrameGeometry, PlaneGeometry
from streamlight.models.nn.kernels import Kernels

KERNELS: Final = Kernels()
"""How the transfer is done on CUDA."""

_RADII = (1, 2)
"""Window radius of the fit, luma and chroma, in cells of the small copy, as on the CPU."""


@dataclass(frozen=True, slots=True)
class DeviceMaps:
    """Per plane, ``out = gain·in + bias`` in code values, on the small grid.

    Attributes:
        gain: ``(planes, h, w)`` float32.
        bias: Likewise.
    """

    gain: Tensor
    bias: Tensor


class DeviceTransfer:
    """:class:`~streamlight.enhance.transfer.GuidedTransfer` for planes that are tensors.

    Planes are ``(H, W)`` uint8 or uint16, strided views too; all of a call's tensors are on one device, and what comes
    out is contiguous on the same. Numbers that a device has worked out stay there as 0-dim tensors. On CUDA the work is
    done by Triton kernels, elsewhere, or where Triton does not work, by torch in single precision; samples differ from
    those of the CPU kernels by at most one code, where a value lies next to a half.

    Args:
        geometry: Frame format and small grid.
        kernels: Triton or torch.
    """

    def __init__(self, geometry: FrameGeometry, *, kernels: Kernels = KERNELS) -> None:
        self.geometry = geometry
        self._kernels = kernels

    def shrink(self, planes: tuple[Tensor, ...]) -> Tensor:
        """The small copy of decoded planes, ``(3, h, w)`` float32 normalised YCbCr; chroma 0 if there is none."""

        def compiled() -> Tensor:
            from streamlight.enhance.transfer.triton_kernels import shrink

            make = torch.empty if len(planes) == 3 else torch.zeros
            small = make(3, self.geometry.height, self.geometry.width, device=planes[0].device)
            shrink(planes, self.geometry, small)
            return small

        return self._kernels.run(planes[0], compiled, partial(_shrink, planes, self.geometry))

    def fit(self, dark: Tensor, bright: Tensor, *, eps: tuple[Tensor | float, Tensor | float]) -> DeviceMaps:
        """Fit the maps.

        Args:
            dark: Small copy, ``(3, h, w)`` float32, normalised YCbCr.
            bright: What it should become, same shape.
            eps: Regularisation for luma and chroma, squared normalised units; > 0; 0-dim if tensors.
        """
        dark, bright = dark.float().contiguous(), bright.float().contiguous()

        def compiled() -> DeviceMaps:
            from streamlight.enhance.transfer.triton_kernels import fit

            shape = (len(self.geometry.planes), self.geometry.height, self.geometry.width)
            maps = (dark.new_empty(shape), dark.new_empty(shape))
            strengths = (_number(eps[0], dark.device), _number(eps[1], dark.device))
            fit(dark, bright, strengths, _RADII, self.geometry, maps, dark.new_empty(2, *shape))
            return DeviceMaps(*maps)

        return self._kernels.run(dark, compiled, partial(_fit, dark, bright, eps, self.geometry))

    def apply(self, planes: tuple[Tensor, ...], maps: DeviceMaps) -> tuple[Tensor, ...]:
        """``out = A↑·in + B↑``, rounded and clamped, as new planes of the same type."""

        def compiled() -> tuple[Tensor, ...]:
            from streamlight.enhance.transfer.triton_kernels import transfer

            out = self._empty(planes)
            transfer(planes, self.geometry, (maps.gain.contiguous(), maps.bias.contiguous()), out)
            return out

        def plain() -> tuple[Tensor, ...]:
            values = (_values(plane) for plane in planes)
            return tuple(self._affine(i, value, maps, planes[i].dtype) for i, value in enumerate(values))

        return self._kernels.run(planes[0], compiled, plain)

    def filter_apply(
        self,
        planes: tuple[Tensor, ...],
        maps: DeviceMaps,
        *,
        memory: list[Tensor],
        gate: Tensor,
        threshold: Tensor | float,
    ) -> tuple[Tensor, ...]:
        """:meth:`apply` behind a motion-gated recursive filter, in one pass over each plane.

        Args:
            planes: Decoded planes.
            maps: From :meth:`fit`.
            memory: Filtered planes from :meth:`remember`; updated in place.
            gate: Weight of the new frame, ``(h, w)`` float32 in (0, 1].
            threshold: A sample that differs from its memory by more than this many 8-bit codes is followed faster;
                0-dim if a tensor.
        """

        def compiled() -> tuple[Tensor, ...]:
            from streamlight.enhance.transfer.triton_kernels import Recursion, transfer

            out = self._empty(planes)
            limit = _number(threshold, gate.device)
            recursion = Recursion(memory, gate.float().contiguous(), limit, _fraction(self.geometry.planes[0]))
            transfer(planes, self.geometry, (maps.gain.contiguous(), maps.bias.contiguous()), out, recursion)
            return out

        def plain() -> tuple[Tensor, ...]:
            shapes = self.geometry.planes
            values = (
                _follow(plane, kept, shape, gate, threshold)
                for plane, kept, shape in zip(planes, memory, shapes, strict=True)
            )
            return tuple(self._affine(i, value, maps, planes[i].dtype) for i, value in enumerate(values))

        return self._kernels.run(planes[0], compiled, plain)

    def remember(self, planes: tuple[Tensor, ...]) -> list[Tensor]:
        """Start the memory of :meth:`filter_apply` with these planes, as 16-bit fixed point."""
        return [
            (plane.to(torch.int32) * _fraction(shape)).to(torch.uint16).contiguous()
            for plane, shape in zip(planes, self.geometry.planes, strict=True)
        ]

    def _empty(self, planes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.empty(plane.shape, dtype=plane.dtype, device=plane.device) for plane in planes)

    def _affine(self, index: int, value: Tensor, maps: DeviceMaps, dtype: torch.dtype) -> Tensor:
        """``gain↑·value + bias↑``, rounded and clamped."""
        shape = self.geometry.planes[index]
        out = _expand(maps.gain[index], shape).mul_(value).add_(_expand(maps.bias[index], shape))
        return out.add_(0.5).clamp_(0.0, float(shape.peak)).to(torch.int32).to(dtype)


def _fraction(shape: PlaneGeometry) -> int:
    """Fixed-point units a code in the memory: what 16 bits leave."""
    return 65536 // (shape.peak + 1)


def _number(value: Tensor | float, device: torch.device) -> Tensor:
    """A 0-dim tensor on the device; a number of the host gets there without a copy that waits."""
    if isinstance(value, Tensor) and value.device.type == device.type:
        return value
    return torch.full((), float(value), device=device)


def _values(plane: Tensor) -> Tensor:
    """Code values in single precision, contiguous; of 16-bit samples torch can do little but convert them."""
    return plane.to(torch.int32).to(torch.float32, memory_format=torch.contiguous_format)


def _shrink(planes: tuple[Tensor, ...], geometry: FrameGeometry) -> Tensor:
    small = torch.zeros(3, geometry.height, geometry.width, device=planes[0].device)
    for plane, shape, out in zip(planes, geometry.planes, small, strict=False):
        factors = (shape.factor_y, shape.factor_x)
        mean = F.avg_pool2d(_values(plane)[None], factors, ceil_mode=True, count_include_pad=False)[0]
        out.copy_((mean - shape.offset) / shape.span)
    return small


def _fit(
    dark: Tensor, bright: Tensor, eps: tuple[Tensor | float, Tensor | float], geometry: FrameGeometry
) -> DeviceMaps:
    gains, biases = [], []
    for index, shape in enumerate(geometry.planes):
        kind = min(index, 1)
        gain, bias = reference.fit(dark[index], bright[index], radius=_RADII[kind], eps=eps[kind])
        gains.append(gain)
        biases.append(bias * shape.span + shape.offset * (1.0 - gain))
    return DeviceMaps(torch.stack(gains), torch.stack(biases))


def _follow(plane: Tensor, memory: Tensor, shape: PlaneGeometry, gate: Tensor, threshold: Tensor | float) -> Tensor:
    """The recursive filter on one plane: its filtered values; ``memory`` is updated."""
    fraction = _fraction(shape)
    old = _values(memory) / fraction
    step = _values(plane) - old
    quiet = threshold * ((shape.peak + 1) / 256.0)
    k = _expand(gate, shape) + (step.abs() - quiet).clamp_min(0.0) * (0.5 / quiet)
    new = old + k.clamp_max(1.0) * step
    memory.copy_((new * fraction + 0.5).to(torch.int32))
    return new


def _expand(small: Tensor, shape: PlaneGeometry) -> Tensor:
    """Bilinear from cell centres to sample centres, the border value held, ``(h, w)`` → ``(H, W)``."""
    for axis, size, factor in ((1, shape.width, shape.factor_x), (0, shape.height, shape.factor_y)):
        cells = small.shape[axis]
        # Whole numbers up to the weight: (index + 0.5) / factor - 0.5, clamped, in units of 1 / (2 factor).
        units = torch.arange(1 - factor, 2 * size + 1 - factor, 2, device=small.device)
        units = units.clamp_(0, (cells - 1) * 2 * factor)
        first = units // (2 * factor)
        weight = (units - first * (2 * factor)).float() / (2 * factor)
        low = small.index_select(axis, first)
        high = small.index_select(axis, (first + 1).clamp_max_(cells - 1))
        small = low + (weight if axis else weight[:, None]) * (high - low)
    return small
