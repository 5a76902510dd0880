"""GPU kernels of the colour conversion, in Triton. Imported only where they are launched.

Bytes a frame of 1080p, 4:2:0, 8 bit and RGB in float32: each of the two kernels moves 28.0 MB in one launch, 3.1 MB of
planes and 24.9 MB of RGB, half of that in 16 bits. A program takes 1024 samples, neighbouring lanes neighbouring
samples; the chroma that neighbours share stays in the cache. Planes and RGB come with strides. Products and sums are
not fused, so that a kernel gives the same bits compiled and interpreted.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from streamlight.media.frame import ColorSpec

_OPTIONS: Final[dict[str, Any]] = {"num_warps": 4, "enable_fp_fusion": False}

_TILE: Final = (2, 512)
"""Rows and columns of luma that a program takes."""

_MAGIC: tl.constexpr = tl.constexpr(12582912.0)  # 1.5 · 2²³: adding it leaves no room for a fraction


@triton.jit
def _chroma_position(index, count, SHIFT: tl.constexpr, FIRST: tl.constexpr):  # type: ignore[no-untyped-def]
    # In units of half a luma sample; FIRST where a chroma sample sits on the first luma sample, not in their middle.
    units = 2 * index if FIRST else tl.maximum(2 * index + 1 - (1 << SHIFT), 0)
    units = tl.minimum(units, (count - 1) << (SHIFT + 1))
    first = units >> (SHIFT + 1)
    weight = (units - (first << (SHIFT + 1))).to(tl.float32) * (0.5 / (1 << SHIFT))
    return first, tl.minimum(first + 1, count - 1), weight


@triton.jit
def _chroma(  # type: ignore[no-untyped-def]
    src, pitch, step, top, bottom, row_weight, left, right, column_weight, inside
):
    # Code values times dyadic weights are exact in single precision.
    a = tl.load(src + top * pitch + left * step, mask=inside, other=0).to(tl.float32)
    a += column_weight * (tl.load(src + top * pitch + right * step, mask=inside, other=0).to(tl.float32) - a)
    b = tl.load(src + bottom * pitch + left * step, mask=inside, other=0).to(tl.float32)
    b += column_weight * (tl.load(src + bottom * pitch + right * step, mask=inside, other=0).to(tl.float32) - b)
    return a + row_weight * (b - a)


@triton.jit
def _store(out, value, inside):  # type: ignore[no-untyped-def]
    value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    tl.store(out, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _to_rgb(  # type: ignore[no-untyped-def]
    luma, blue, red, out, luma_pitch, luma_step, blue_pitch, blue_step, red_pitch, red_step,
    height, width, chroma_height, chroma_width, luma_offset, luma_unit, chroma_offset, chroma_unit, k_red, k_blue,
    SHIFT_X: tl.constexpr, SHIFT_Y: tl.constexpr, LEFT: tl.constexpr, CHROMA: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    y = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    x = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (y < height) & (x < width)
    value = tl.load(luma + y * luma_pitch + x * luma_step, mask=inside, other=0).to(tl.float32)
    value = (value - luma_offset) * luma_unit
    out += y * width + x
    size = height * width
    if CHROMA:
        top, bottom, row_weight = _chroma_position(y, chroma_height, SHIFT_Y, False)
        left, right, column_weight = _chroma_position(x, chroma_width, SHIFT_X, LEFT)
        b = _chroma(blue, blue_pitch, blue_step, top, bottom, row_weight, left, right, column_weight, inside)
        r = _chroma(red, red_pitch, red_step, top, bottom, row_weight, left, right, column_weight, inside)
        b = value + 2.0 * (1.0 - k_blue) * ((b - chroma_offset) * chroma_unit)
        r = value + 2.0 * (1.0 - k_red) * ((r - chroma_offset) * chroma_unit)
        _store(out, r, inside)
        _store(out + size, (value - k_red * r - k_blue * b) * (1.0 / (1.0 - k_red - k_blue)), inside)
        _store(out + 2 * size, b, inside)
    else:
        _store(out, value, inside)
        _store(out + size, value, inside)
        _store(out + 2 * size, value, inside)


@triton.jit
def _code(out, value, offset, span, peak, inside):  # type: ignore[no-untyped-def]
    # To the nearest whole number, a half to the even one, as torch and IEEE 754 do it.
    value = (value * span + offset + _MAGIC) - _MAGIC
    value = tl.minimum(tl.maximum(value, 0.0), peak)
    tl.store(out, value.to(tl.int32).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _normalised(rgb, channel, inside, k_red, k_green, k_blue):  # type: ignore[no-untyped-def]
    # Luma, B - Y and R - Y.
    r = tl.minimum(tl.maximum(tl.load(rgb, mask=inside, other=0.0).to(tl.float32), 0.0), 1.0)
    g = tl.minimum(tl.maximum(tl.load(rgb + channel, mask=inside, other=0.0).to(tl.float32), 0.0), 1.0)
    b = tl.minimum(tl.maximum(tl.load(rgb + 2 * channel, mask=inside, other=0.0).to(tl.float32), 0.0), 1.0)
    luma = k_red * r + k_green * g + k_blue * b
    return luma, b - luma, r - luma


@triton.jit
def _to_codes(  # type: ignore[no-untyped-def]
    rgb, luma_out, blue_out, red_out, channel, pitch, step, height, width, chroma_height, chroma_width,
    luma_offset, luma_span, chroma_offset, chroma_span, peak, k_red, k_green, k_blue, blue_unit, red_unit,
    SHIFT_X: tl.constexpr, SHIFT_Y: tl.constexpr, LEFT: tl.constexpr, CHROMA: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    # ROWS rows of CELLS chroma samples, and the block of luma samples under each: (rows, cells, columns of a block).
    FX: tl.constexpr = 1 << SHIFT_X
    FY: tl.constexpr = 1 << SHIFT_Y
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    cell = (tl.program_id(0) * CELLS + tl.arange(0, CELLS))[None, :]
    inner = tl.arange(0, FX)[None, None, :]
    x = cell[:, :, None] * FX + inner
    there = (row < chroma_height) & (cell < chroma_width)
    # The window [-FX / 2, FX / 2] about the first sample of a block, half weight at its ends, or the block itself.
    LEAD: tl.constexpr = FX // 2 if LEFT else 0
    weight = tl.full([1, 1, FX], 1.0 / FX, tl.float32)
    if LEFT and SHIFT_X > 0:
        weight = tl.where(inner < LEAD, 1.0 / FX, tl.where(inner == LEAD, 0.5 / FX, 0.0))
    blue = tl.zeros([ROWS, CELLS], tl.float32)
    red = tl.zeros([ROWS, CELLS], tl.float32)
    for k in tl.static_range(FY):
        y = (row * FY + k)[:, :, None]
        # The last row and column stand for those that are missing in a last, cut block.
        near = tl.minimum(y, height - 1) * pitch
        column = x if EVEN else tl.minimum(x, width - 1)
        luma, b, r = _normalised(rgb + near + column * step, channel, there[:, :, None], k_red, k_green, k_blue)
        _code(luma_out + y * width + x, luma, luma_offset, luma_span, peak, (y < height) & (x < width))
        if CHROMA:
            blue += tl.sum(b * weight, 2)
            red += tl.sum(r * weight, 2)
            start = rgb + tl.minimum(row * FY + k, height - 1) * pitch
            for t in tl.static_range(LEAD):
                before = tl.maximum(cell * FX + (t - LEAD), 0) * step
                _, b, r = _normalised(start + before, channel, there, k_red, k_green, k_blue)
                share = (0.5 if t == 0 else 1.0) / FX
                blue += b * share
                red += r * share
    if CHROMA:
        place = row * chroma_width + cell
        _code(blue_out + place, tl.div_rn(blue * (1.0 / FY), blue_unit), chroma_offset, chroma_span, peak, there)
        _code(red_out + place, tl.div_rn(red * (1.0 / FY), red_unit), chroma_offset, chroma_span, peak, there)


def to_rgb(planes: tuple[Tensor, ...], color: ColorSpec, dtype: torch.dtype) -> Tensor:
    """``(3, H, W)`` RGB in [0, 1], contiguous, from Y, Cb, Cr or Y alone."""
    height, width = planes[0].shape
    rgb = torch.empty(3, height, width, dtype=dtype, device=planes[0].device)
    has_chroma = color.chroma != "400"
    three = planes if has_chroma else (planes[0],) * 3
    luma_offset, luma_span = color.luma_scale()
    chroma_offset, chroma_span = color.chroma_scale()
    rows, columns = _TILE
    _to_rgb[(triton.cdiv(width, columns), triton.cdiv(height, rows))](
        *three, rgb, *(stride for plane in three for stride in plane.stride()), height, width, *three[1].shape,
        luma_offset, 1.0 / luma_span, chroma_offset, 1.0 / chroma_span, *color.luma_weights,
        SHIFT_X=color.chroma_shift[0], SHIFT_Y=color.chroma_shift[1], LEFT=color.range == "limited", CHROMA=has_chroma,
        ROWS=rows, COLUMNS=columns, **_OPTIONS,
    )  # fmt: skip
    return rgb


def to_codes(rgb: Tensor, color: ColorSpec, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Code values of Y, Cb, Cr or Y alone from ``(3, H, W)`` RGB, each plane contiguous."""
    _, height, width = rgb.shape
    shift_x, shift_y = color.chroma_shift
    has_chroma = color.chroma != "400"
    small = (-(-height >> shift_y), -(-width >> shift_x))
    planes = [rgb.new_empty((height, width), dtype=dtype)]
    if has_chroma:
        planes += [rgb.new_empty(small, dtype=dtype) for _ in range(2)]
    k_red, k_blue = color.luma_weights
    rows, columns = _TILE
    rows, cells = max(1, rows >> shift_y), columns >> shift_x
    _to_codes[(triton.cdiv(small[1], cells), triton.cdiv(small[0], rows))](
        rgb, planes[0], planes[min(1, len(planes) - 1)], planes[-1], *rgb.stride(), height, width, *small,
        *color.luma_scale(), *color.chroma_scale(), float(color.peak), k_red, 1.0 - k_red - k_blue, k_blue,
        2.0 * (1.0 - k_blue), 2.0 * (1.0 - k_red),
        SHIFT_X=shift_x, SHIFT_Y=shift_y, LEFT=color.range == "limited", CHROMA=has_chroma,
        EVEN=width % (1 << shift_x) == 0, ROWS=rows, CELLS=cells, **_OPTIONS,
    )  # fmt: skip
    return tuple(planes)
