"""GPU kernels of the guided transfer, in Triton. Imported only where they are launched.

Bytes a frame of 1080p, 4:2:0 and 8 bit with a small copy of 480 by 270:

* ``shrink``, one launch: reads the planes, 3.1 MB, and writes the small copy, 1.6 MB.
* ``fit``, two launches: the coefficients of all windows (3.1 MB in, 3.1 MB out) and their means (the same again).
* ``transfer``, one launch: planes 3.1 MB in and out and the maps, 3.1 MB; behind the recursive filter also the memory,
  6.2 MB in and out, and the gate, 0.5 MB.

All planes share a launch. A program takes a piece of a few rows, neighbouring lanes neighbouring samples; what several
samples read, the small maps and the windows, stays in the cache. Planes come with a row and a sample stride. Products
and sums are not fused, so that a kernel gives the same bits compiled and interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from streamlight.enhance.transfer.geometry import FrameGeometry

_OPTIONS: Final[dict[str, Any]] = {"num_warps": 4, "enable_fp_fusion": False}

_PIECE: Final = (4, 256)
"""Rows and columns of a plane that a program of ``transfer`` takes: eight samples of a row a thread."""

_SHRUNK: Final = 512
"""Samples of a row that a program of ``shrink`` reads at once: four a thread."""

_TILE: Final = (4, 64)
"""Rows and columns of the small copy that a program of ``fit`` takes."""


@triton.jit
def _shrink_cells(  # type: ignore[no-untyped-def]
    src, pitch, step, height, width, offset, span, out, small_width,
    FX: tl.constexpr, FY: tl.constexpr, FX_PADDED: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    cells = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    inner = tl.arange(0, FX_PADDED)
    x = cells[:, None] * FX + inner[None, :]
    total = tl.zeros([CELLS, FX_PADDED], tl.float32)
    for k in tl.static_range(FY):
        y = row * FY + k
        inside = (x < tl.where(y < height, width, 0)) & (inner[None, :] < FX)
        total += tl.load(src + y * pitch + x * step, mask=inside, other=0).to(tl.float32)
    columns = tl.maximum(tl.minimum(width - cells * FX, FX), 1)
    count = (tl.minimum(height - row * FY, FY) * columns).to(tl.float32)
    value = tl.div_rn(tl.sum(total, 1) - offset * count, span * count)
    tl.store(out + row * small_width + cells, value, mask=cells < small_width)


@triton.jit
def _shrink(  # type: ignore[no-untyped-def]
    luma, blue, red, out, luma_pitch, luma_step, blue_pitch, blue_step, red_pitch, red_step,
    height, width, chroma_height, chroma_width, small_height, small_width, luma_offset, luma_span, offset, span,
    FX: tl.constexpr, FY: tl.constexpr, CHROMA_FX: tl.constexpr, CHROMA_FY: tl.constexpr,
    FX_PADDED: tl.constexpr, CHROMA_FX_PADDED: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(2)
    out += plane * small_height * small_width
    if plane == 0:
        _shrink_cells(luma, luma_pitch, luma_step, height, width, luma_offset, luma_span, out, small_width,
                      FX, FY, FX_PADDED, CELLS)  # fmt: skip
    elif plane == 1:
        _shrink_cells(blue, blue_pitch, blue_step, chroma_height, chroma_width, offset, span, out, small_width,
                      CHROMA_FX, CHROMA_FY, CHROMA_FX_PADDED, CELLS)  # fmt: skip
    else:
        _shrink_cells(red, red_pitch, red_step, chroma_height, chroma_width, offset, span, out, small_width,
                      CHROMA_FX, CHROMA_FY, CHROMA_FX_PADDED, CELLS)  # fmt: skip


@triton.jit
def _fit_tile(  # type: ignore[no-untyped-def]
    dark, bright, eps, first, second, height, width,
    RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    y = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    x = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (y < height) & (x < width)
    # Moments about the sample in the middle: in single precision those about zero lose the noise of bright areas.
    guide = tl.load(dark + y * width + x, mask=inside, other=0.0)
    target = tl.load(bright + y * width + x, mask=inside, other=0.0)
    m_i = tl.zeros([ROWS, COLUMNS], tl.float32)
    m_o = tl.zeros([ROWS, COLUMNS], tl.float32)
    m_ii = tl.zeros([ROWS, COLUMNS], tl.float32)
    m_io = tl.zeros([ROWS, COLUMNS], tl.float32)
    for dy in tl.static_range(-RADIUS, RADIUS + 1):
        for dx in tl.static_range(-RADIUS, RADIUS + 1):
            row = tl.minimum(tl.maximum(y + dy, 0), height - 1)
            index = row * width + tl.minimum(tl.maximum(x + dx, 0), width - 1)
            i = tl.load(dark + index) - guide
            o = tl.load(bright + index) - target
            m_i += i
            m_o += o
            m_ii += i * i
            m_io += i * o
    n = 1.0 / ((2 * RADIUS + 1) * (2 * RADIUS + 1))
    m_i *= n
    m_o *= n
    variance = tl.maximum(m_ii * n - m_i * m_i, 0.0)
    a = tl.div_rn(m_io * n - m_i * m_o, variance + eps)
    tl.store(first + y * width + x, a, mask=inside)
    tl.store(second + y * width + x, target + m_o - a * (guide + m_i), mask=inside)


@triton.jit
def _fit(  # type: ignore[no-untyped-def]
    dark, bright, luma_eps, chroma_eps, first, second, height, width,
    LUMA_RADIUS: tl.constexpr, RADIUS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(2)
    start = plane * height * width
    dark += start
    bright += start
    first += start
    second += start
    if plane == 0:
        eps = tl.load(luma_eps).to(tl.float32)
        _fit_tile(dark, bright, eps, first, second, height, width, LUMA_RADIUS, ROWS, COLUMNS)
    else:
        eps = tl.load(chroma_eps).to(tl.float32)
        _fit_tile(dark, bright, eps, first, second, height, width, RADIUS, ROWS, COLUMNS)


@triton.jit
def _smooth_tile(  # type: ignore[no-untyped-def]
    first, second, gain, bias, height, width, offset, span,
    RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    y = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    x = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    a = tl.zeros([ROWS, COLUMNS], tl.float32)
    b = tl.zeros([ROWS, COLUMNS], tl.float32)
    for dy in tl.static_range(-RADIUS, RADIUS + 1):
        for dx in tl.static_range(-RADIUS, RADIUS + 1):
            row = tl.minimum(tl.maximum(y + dy, 0), height - 1)
            index = row * width + tl.minimum(tl.maximum(x + dx, 0), width - 1)
            a += tl.load(first + index)
            b += tl.load(second + index)
    n = 1.0 / ((2 * RADIUS + 1) * (2 * RADIUS + 1))
    a *= n
    inside = (y < height) & (x < width)
    tl.store(gain + y * width + x, a, mask=inside)
    tl.store(bias + y * width + x, b * n * span + offset * (1.0 - a), mask=inside)


@triton.jit
def _smooth(  # type: ignore[no-untyped-def]
    first, second, gain, bias, height, width, luma_offset, luma_span, chroma_offset, chroma_span,
    LUMA_RADIUS: tl.constexpr, RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(2)
    start = plane * height * width
    first += start
    second += start
    gain += start
    bias += start
    if plane == 0:
        _smooth_tile(first, second, gain, bias, height, width, luma_offset, luma_span, LUMA_RADIUS, ROWS, COLUMNS)
    else:
        _smooth_tile(first, second, gain, bias, height, width, chroma_offset, chroma_span, RADIUS, ROWS, COLUMNS)


@triton.jit
def _position(index, cells, FACTOR: tl.constexpr):  # type: ignore[no-untyped-def]
    # Whole numbers up to the weight: (index + 0.5) / FACTOR - 0.5, clamped, in units of 1 / (2 FACTOR).
    units = tl.minimum(tl.maximum(2 * index + 1 - FACTOR, 0), (cells - 1) * (2 * FACTOR))
    first = units // (2 * FACTOR)
    weight = (units - first * (2 * FACTOR)).to(tl.float32) * (1.0 / (2 * FACTOR))
    return first, tl.minimum(first + 1, cells - 1), weight


@triton.jit
def _expanded(small, top, bottom, row_weight, left, right, column_weight):  # type: ignore[no-untyped-def]
    a = tl.load(small + top + left)
    a += column_weight * (tl.load(small + top + right) - a)
    b = tl.load(small + bottom + left)
    b += column_weight * (tl.load(small + bottom + right) - b)
    return a + row_weight * (b - a)


@triton.jit
def _transfer_tile(  # type: ignore[no-untyped-def]
    program, src, pitch, step, height, width, out, gain, bias, small_height, small_width, peak,
    memory, gate, threshold, fraction,
    FX: tl.constexpr, FY: tl.constexpr, FILTER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    across = (width + COLUMNS - 1) // COLUMNS
    y = ((program // across) * ROWS + tl.arange(0, ROWS))[:, None]
    x = ((program % across) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (y < height) & (x < width)
    place = y * width + x
    top, bottom, row_weight = _position(y, small_height, FY)
    left, right, column_weight = _position(x, small_width, FX)
    top *= small_width
    bottom *= small_width
    value = tl.load(src + y * pitch + x * step, mask=inside, other=0).to(tl.float32)
    if FILTER:
        quiet = tl.load(threshold).to(tl.float32) * ((peak + 1.0) * 0.00390625)
        escape = tl.div_rn(0.5, quiet)
        old = tl.load(memory + place, mask=inside, other=0).to(tl.float32) * (1.0 / fraction)
        change = value - old
        k = _expanded(gate, top, bottom, row_weight, left, right, column_weight)
        k += tl.maximum(tl.abs(change) - quiet, 0.0) * escape
        value = old + tl.minimum(k, 1.0) * change
        kept = (value * fraction + 0.5).to(tl.int32)
        tl.store(memory + place, kept.to(memory.dtype.element_ty), mask=inside)
    a = _expanded(gain, top, bottom, row_weight, left, right, column_weight)
    b = _expanded(bias, top, bottom, row_weight, left, right, column_weight)
    code = tl.minimum(tl.maximum(a * value + b + 0.5, 0.0), peak).to(tl.int32)
    tl.store(out + place, code.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _transfer(  # type: ignore[no-untyped-def]
    luma, blue, red, luma_out, blue_out, red_out, luma_memory, blue_memory, red_memory, gain, bias, gate, threshold,
    luma_pitch, luma_step, blue_pitch, blue_step, red_pitch, red_step,
    height, width, chroma_height, chroma_width, small_height, small_width, of_luma, of_chroma, peak, fraction,
    FX: tl.constexpr, FY: tl.constexpr, CHROMA_FX: tl.constexpr, CHROMA_FY: tl.constexpr,
    FILTER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    cells = small_height * small_width
    if program < of_luma:
        _transfer_tile(program, luma, luma_pitch, luma_step, height, width, luma_out, gain, bias,
                       small_height, small_width, peak, luma_memory, gate, threshold, fraction,
                       FX, FY, FILTER, ROWS, COLUMNS)  # fmt: skip
    else:
        program -= of_luma
        src, pitch, step, out, memory = blue, blue_pitch, blue_step, blue_out, blue_memory
        start = cells
        if program >= of_chroma:
            program -= of_chroma
            src, pitch, step, out, memory = red, red_pitch, red_step, red_out, red_memory
            start = 2 * cells
        _transfer_tile(program, src, pitch, step, chroma_height, chroma_width, out, gain + start, bias + start,
                       small_height, small_width, peak, memory, gate, threshold, fraction,
                       CHROMA_FX, CHROMA_FY, FILTER, ROWS, COLUMNS)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recursion:
    """What :func:`transfer` needs for the recursive filter.

    Attributes:
        memory: A contiguous uint16 tensor a plane, updated in place.
        gate: ``(h, w)`` float32, contiguous.
        threshold: 0-dim, 8-bit codes.
        fraction: Units of the memory a code.
    """

    memory: list[Tensor]
    gate: Tensor
    threshold: Tensor
    fraction: int


def shrink(planes: tuple[Tensor, ...], geometry: FrameGeometry, out: Tensor) -> None:
    """Normalised area averages of the planes into the first planes of ``out``, ``(3, h, w)`` float32, contiguous."""
    luma, chroma = geometry.planes[0], geometry.planes[-1]
    padded = triton.next_power_of_2(luma.factor_x)
    cells = max(1, _SHRUNK // padded)
    _shrink[(triton.cdiv(geometry.width, cells), geometry.height, len(planes))](
        *_three(planes), out, *_strides(planes), luma.height, luma.width, chroma.height, chroma.width,
        geometry.height, geometry.width, float(luma.offset), float(luma.span), float(chroma.offset), float(chroma.span),
        FX=luma.factor_x, FY=luma.factor_y, CHROMA_FX=chroma.factor_x, CHROMA_FY=chroma.factor_y,
        FX_PADDED=padded, CHROMA_FX_PADDED=triton.next_power_of_2(chroma.factor_x), CELLS=cells, **_OPTIONS,
    )  # fmt: skip


def fit(
    dark: Tensor,
    bright: Tensor,
    eps: tuple[Tensor, Tensor],
    radii: tuple[int, int],
    geometry: FrameGeometry,
    maps: tuple[Tensor, Tensor],
    scratch: Tensor,
) -> None:
    """Window-averaged maps in code values.

    Args:
        dark: ``(3, h, w)`` float32, contiguous.
        bright: The same.
        eps: Luma and chroma, 0-dim.
        radii: Window radius of luma and chroma.
        geometry: Of the planes.
        maps: Gain and bias to write, ``(P, h, w)`` float32, contiguous.
        scratch: ``(2, P, h, w)`` float32, contiguous.
    """
    luma, chroma = geometry.planes[0], geometry.planes[-1]
    rows, columns = _TILE
    size = (geometry.height, geometry.width)
    grid = (triton.cdiv(size[1], columns), triton.cdiv(size[0], rows), len(geometry.planes))
    fixed = {"LUMA_RADIUS": radii[0], "RADIUS": radii[1], "ROWS": rows, "COLUMNS": columns, **_OPTIONS}
    _fit[grid](dark, bright, *eps, scratch[0], scratch[1], *size, **fixed)
    scales = (float(luma.offset), float(luma.span), float(chroma.offset), float(chroma.span))
    _smooth[grid](scratch[0], scratch[1], *maps, *size, *scales, **fixed)


def transfer(
    planes: tuple[Tensor, ...],
    geometry: FrameGeometry,
    maps: tuple[Tensor, Tensor],
    out: tuple[Tensor, ...],
    recursion: Recursion | None = None,
) -> None:
    """``out = gain↑·in + bias↑``, with ``recursion`` behind the recursive filter.

    Args:
        planes: Decoded planes.
        geometry: Of the planes.
        maps: Gain and bias, ``(P, h, w)`` float32, contiguous.
        out: Planes to write, contiguous.
        recursion: Of the filter.
    """
    luma, chroma = geometry.planes[0], geometry.planes[-1]
    rows, columns = _PIECE
    programs = [triton.cdiv(shape.height, rows) * triton.cdiv(shape.width, columns) for shape in geometry.planes]
    # Without a filter the kernel looks at none of its tensors; something has to stand there.
    memory, gate, threshold = (out, *maps) if recursion is None else (*_of(recursion),)
    _transfer[(sum(programs),)](
        *_three(planes), *_three(out), *_three(memory), *maps, gate, threshold, *_strides(planes),
        luma.height, luma.width, chroma.height, chroma.width, geometry.height, geometry.width,
        programs[0], programs[-1], float(luma.peak), float(recursion.fraction if recursion else 1),
        FX=luma.factor_x, FY=luma.factor_y, CHROMA_FX=chroma.factor_x, CHROMA_FY=chroma.factor_y,
        FILTER=recursion is not None, ROWS=rows, COLUMNS=columns, **_OPTIONS,
    )  # fmt: skip


def _of(recursion: Recursion) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    return tuple(recursion.memory), recursion.gate, recursion.threshold


def _three(planes: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Luma stands in for chroma where there is none: no program is started for it."""
    return planes[0], planes[min(1, len(planes) - 1)], planes[-1]


def _strides(planes: tuple[Tensor, ...]) -> list[int]:
    return [stride for plane in _three(planes) for stride in plane.stride()]
