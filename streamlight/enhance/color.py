"""Decoded planes to RGB tensors and back (ITU-T H.273 matrices), for models that see every pixel."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor

from streamlight.media.frame import ColorSpec
from streamlight.models.nn.kernels import Kernels

KERNELS: Final = Kernels()
"""How whole frames are converted on CUDA."""


def rgb_from_planes(
    planes: tuple[np.ndarray, ...] | tuple[Tensor, ...],
    color: ColorSpec,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kernels: Kernels = KERNELS,
) -> Tensor:
    """``(3, H, W)`` RGB in [0, 1] from Y, Cb, Cr code values; luma alone becomes grey.

    Chroma is interpolated linearly. Its samples sit on the left luma column and between luma rows (MPEG-2), in full
    range in the middle of both (JPEG).

    Args:
        planes: ``(H, W)`` uint8 or uint16 each; tensors, strided views too, are converted where they are.
        color: Of the planes.
        device: Where NumPy planes are converted.
        dtype: Floating type of the result; the arithmetic is float32.
        kernels: Triton or torch.
    """
    tensors = tuple(_tensor(plane, device) for plane in planes)

    def compiled() -> Tensor:
        from streamlight.enhance.color_kernels import to_rgb

        return to_rgb(tensors, color, dtype)

    return kernels.run(tensors[0], compiled, lambda: _to_rgb(tensors, color).to(dtype))


def planes_from_rgb(rgb: Tensor, color: ColorSpec) -> tuple[np.ndarray, ...]:
    """:func:`codes_from_rgb` as NumPy planes; waits for a device."""
    return tuple(codes.cpu().numpy() for codes in codes_from_rgb(rgb, color))


def codes_from_rgb(rgb: Tensor, color: ColorSpec, *, kernels: Kernels = KERNELS) -> tuple[Tensor, ...]:
    """The inverse of :func:`rgb_from_planes`: rounded code values, chroma filtered before it is subsampled.

    Args:
        rgb: ``(3, H, W)`` float, [0, 1].
        color: Of the planes wanted.
        kernels: Triton or torch. Their codes differ by at most one, and only where a chroma value lies within its
            last bits of a half: fewer than one sample in a thousand.

    Returns:
        ``(H, W)`` uint8 or uint16 each, contiguous, where ``rgb`` is.
    """
    dtype = torch.uint8 if color.dtype == np.uint8 else torch.uint16

    def compiled() -> tuple[Tensor, ...]:
        from streamlight.enhance.color_kernels import to_codes

        return to_codes(rgb, color, dtype)

    return kernels.run(rgb, compiled, partial(_to_codes, rgb, color, dtype))


def rgb_from_ycbcr(ycbcr: Tensor, color: ColorSpec) -> Tensor:
    """RGB in [0, 1] from normalised YCbCr (luma in [0, 1], chroma in [-0.5, 0.5]), ``(3, H, W)`` both."""
    luma, blue, red = ycbcr
    k_red, k_blue = color.luma_weights
    r = luma + 2.0 * (1.0 - k_red) * red
    b = luma + 2.0 * (1.0 - k_blue) * blue
    g = (luma - k_red * r - k_blue * b) / (1.0 - k_red - k_blue)
    return torch.stack([r, g, b]).clamp_(0.0, 1.0)


def ycbcr_from_rgb(rgb: Tensor, color: ColorSpec) -> Tensor:
    """The inverse of :func:`rgb_from_ycbcr`; what is outside [0, 1] is clipped before."""
    r, g, b = rgb.float().clamp(0.0, 1.0)
    k_red, k_blue = color.luma_weights
    luma = k_red * r + (1.0 - k_red - k_blue) * g + k_blue * b
    return torch.stack([luma, (b - luma) / (2.0 * (1.0 - k_blue)), (r - luma) / (2.0 * (1.0 - k_red))])


def _tensor(plane: np.ndarray | Tensor, device: torch.device | str) -> Tensor:
    if isinstance(plane, Tensor):
        return plane
    # Planes may be read-only views of a decoder's memory, about which torch warns although nothing writes to them.
    return torch.from_numpy(np.require(plane, requirements=("C", "W"))).to(device)


def _to_rgb(planes: tuple[Tensor, ...], color: ColorSpec) -> Tensor:
    offset, span = color.luma_scale()
    luma = (_float(planes[0]) - offset) / span
    if color.chroma == "400":
        return luma.clamp(0.0, 1.0).expand(3, -1, -1).contiguous()
    offset, span = color.chroma_scale()
    left = color.range == "limited"
    blue, red = (
        _enlarge(_enlarge((_float(p) - offset) / span, 1, color.chroma_shift[0], luma.shape[1], left=left),
                 0, color.chroma_shift[1], luma.shape[0], left=False)
        for p in planes[1:]
    )  # fmt: skip
    return rgb_from_ycbcr(torch.stack([luma, blue, red]), color)


def _float(plane: Tensor) -> Tensor:
    # Of 16-bit samples torch can do little but convert them.
    return (plane.to(torch.int32) if plane.dtype == torch.uint16 else plane).float()


def _to_codes(rgb: Tensor, color: ColorSpec, dtype: torch.dtype) -> tuple[Tensor, ...]:
    luma, *colors = ycbcr_from_rgb(rgb, color)
    planes = [_codes(luma, *color.luma_scale(), color, dtype)]
    if color.chroma != "400":
        left = color.range == "limited"
        for chroma in colors:
            chroma = _reduce(chroma, 1, color.chroma_shift[0], left=left)
            chroma = _reduce(chroma, 0, color.chroma_shift[1], left=False)
            planes.append(_codes(chroma, *color.chroma_scale(), color, dtype))
    return tuple(planes)


def _codes(value: Tensor, offset: float, span: float, color: ColorSpec, dtype: torch.dtype) -> Tensor:
    codes = (value * span + offset).round_().clamp_(0.0, float(color.peak))
    return codes.to(torch.int32).to(dtype).contiguous()


def _enlarge(image: Tensor, axis: int, shift: int, size: int, *, left: bool) -> Tensor:
    """Linear interpolation along one axis by ``2**shift``, cropped to ``size``."""
    if shift == 0:
        return image
    factor, count = 1 << shift, image.shape[axis]
    position = torch.arange(size, device=image.device, dtype=torch.float32)
    position = position / factor if left else (position + 0.5) / factor - 0.5
    position = position.clamp_(0.0, count - 1)
    first = position.long()
    weight = position - first
    weight = weight if axis == 1 else weight[:, None]
    second = (first + 1).clamp_max(count - 1)
    return torch.lerp(image.index_select(axis, first), image.index_select(axis, second), weight)


def _reduce(image: Tensor, axis: int, shift: int, *, left: bool) -> Tensor:
    """Average over ``2**shift`` samples along one axis; ``left`` centres the window on the first of them."""
    if shift == 0:
        return image
    factor = 1 << shift
    image = image.movedim(axis, -1)
    # The last sample is repeated to fill the last block, as decoders do with odd sizes.
    image = torch.cat([image, image[..., -1:].expand(*image.shape[:-1], -image.shape[-1] % factor)], dim=-1)
    mean = image.unflatten(-1, (-1, factor)).mean(-1)
    if left:
        # The window [-f/2, f/2] with half weight at its ends is the mean of two boxes half a block apart.
        half = factor // 2
        moved = torch.cat([image[..., :1].expand(*image.shape[:-1], half), image], dim=-1)[..., : image.shape[-1]]
        before = moved.unflatten(-1, (-1, factor)).mean(-1)
        after = torch.cat([moved[..., 1:], image[..., -half:][..., :1]], dim=-1)
        mean = 0.5 * (before + after.unflatten(-1, (-1, factor)).mean(-1))
    return mean.movedim(-1, axis)
