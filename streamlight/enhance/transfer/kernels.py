"""CPU kernels of the real-time path, compiled by numba.

Each works on a band of rows, releases the GIL and starts no threads of its own: the caller spreads bands over a
:class:`~streamlight.engine.RowPool`. Nothing here depends on OpenMP, whose waiting threads would take a core away
from the decoder and the encoder. Source planes are C-contiguous ``(H, S)`` with ``S ≥ W``, so that the inner loops
vectorise over padded rows too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_options: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "fastmath": True,
    "boundscheck": False,
    "error_model": "numpy",  # a check for division by zero keeps a loop from being vectorised
}


@njit(**_options)
def shrink_rows(src, width, factor_x, factor_y, offset, span, out, start, stop):  # type: ignore[no-untyped-def]
    """Area-average blocks of ``src`` into rows ``start…stop`` of ``out``, as ``(code - offset) / span``."""
    height = src.shape[0]
    columns = np.empty(width, np.float32)
    for i in range(start, stop):
        top = i * factor_y
        bottom = min(top + factor_y, height)
        for x in range(width):
            columns[x] = np.float32(src[top, x])
        for y in range(top + 1, bottom):
            for x in range(width):
                columns[x] += np.float32(src[y, x])
        scale = np.float32(1.0 / ((bottom - top) * span))
        shift = np.float32(offset / span)
        whole = width // factor_x
        per_block = scale / np.float32(factor_x)
        if factor_x == 4:
            for j in range(whole):
                k = 4 * j
                out[i, j] = (columns[k] + columns[k + 1] + columns[k + 2] + columns[k + 3]) * per_block - shift
        elif factor_x == 2:
            for j in range(whole):
                out[i, j] = (columns[2 * j] + columns[2 * j + 1]) * per_block - shift
        elif factor_x == 1:
            for j in range(whole):
                out[i, j] = columns[j] * per_block - shift
        else:
            for j in range(whole):
                total = np.float32(0.0)
                for k in range(j * factor_x, (j + 1) * factor_x):
                    total += columns[k]
                out[i, j] = total * per_block - shift
        if whole * factor_x < width:
            total = np.float32(0.0)
            for k in range(whole * factor_x, width):
                total += columns[k]
            out[i, whole] = total * scale / np.float32(width - whole * factor_x) - shift


@njit(**_options)
def _expand_row(row, factor, left, weight, out):  # type: ignore[no-untyped-def]
    """Bilinear resampling of one row of a small map to full width.

    The usual factors have loops with constant strides, which vectorise; a gather costs ten times as much.
    """
    width = out.shape[0]
    cells = row.shape[0] - 1
    if factor == 1:
        for x in range(width):
            out[x] = row[x]
        return
    inner = 0
    head = factor // 2
    if factor == 2:
        inner = max(0, min(cells - 1, (width - head) // 2))
        body = out[1:]
        for j in range(inner):
            low = row[j]
            step = row[j + 1] - low
            body[2 * j] = low + np.float32(0.25) * step
            body[2 * j + 1] = low + np.float32(0.75) * step
    elif factor == 4:
        inner = max(0, min(cells - 1, (width - head) // 4))
        body = out[2:]
        for j in range(inner):
            low = row[j]
            step = row[j + 1] - low
            body[4 * j] = low + np.float32(0.125) * step
            body[4 * j + 1] = low + np.float32(0.375) * step
            body[4 * j + 2] = low + np.float32(0.625) * step
            body[4 * j + 3] = low + np.float32(0.875) * step
    else:
        head = 0
    for x in range(head):
        out[x] = row[0]
    for x in range(head + inner * factor, width):
        j = left[x]
        out[x] = row[j] + weight[x] * (row[j + 1] - row[j])


@njit(**_options)
def _mix(low, high, weight, out):  # type: ignore[no-untyped-def]
    for x in range(out.shape[0]):
        out[x] = low[x] + weight * (high[x] - low[x])


@njit(**_options)
def _affine(line, gain, bias, peak, out):  # type: ignore[no-untyped-def]
    """``out = gain·line + bias``, rounded and clamped to [0, peak]."""
    for x in range(line.shape[0]):
        value = gain[x] * line[x] + bias[x] + np.float32(0.5)
        out[x] = np.int32(min(max(value, np.float32(0.0)), peak))


@njit(**_options)
def _follow(src, memory, gate, units, inverse, quiet, escape, line):  # type: ignore[no-untyped-def]
    """One row of the recursive filter; the filtered samples come back in ``line``."""
    for x in range(line.shape[0]):
        old = np.float32(memory[x]) * inverse
        step = np.float32(src[x]) - old
        k = gate[x] + max(np.float32(0.0), abs(step) - quiet) * escape
        new = old + min(k, np.float32(1.0)) * step
        line[x] = new
        memory[x] = np.int32(new * units + np.float32(0.5))


@njit(**_options)
def apply_rows(  # type: ignore[no-untyped-def]
    src, width, gain, bias, factor_x, top_index, top_weight, left_index, left_weight, peak, out, start, stop
):
    """``out = gain↑·src + bias↑`` on rows ``start…stop``; maps are padded by one row and column."""
    maps = np.empty((6, width), np.float32)
    line = np.empty(width, np.float32)
    low, high, current = 0, 2, -1
    for y in range(start, stop):
        i = top_index[y]
        if i != current:
            low, high = high, low
            if i != current + 1 or current < 0:
                _expand_row(gain[i], factor_x, left_index, left_weight, maps[low])
                _expand_row(bias[i], factor_x, left_index, left_weight, maps[low + 1])
            _expand_row(gain[i + 1], factor_x, left_index, left_weight, maps[high])
            _expand_row(bias[i + 1], factor_x, left_index, left_weight, maps[high + 1])
            current = i
        w = np.float32(top_weight[y])
        _mix(maps[low], maps[high], w, maps[4])
        _mix(maps[low + 1], maps[high + 1], w, maps[5])
        row = src[y]
        for x in range(width):
            line[x] = np.float32(row[x])
        _affine(line, maps[4], maps[5], np.float32(peak), out[y])


@njit(**_options)
def filter_apply_rows(  # type: ignore[no-untyped-def]
    src, width, memory, fraction, threshold, gate, gain, bias, factor_x,
    top_index, top_weight, left_index, left_weight, peak, out, start, stop,
):  # fmt: skip
    """Recursive filter and affine transfer in one pass.

    ``memory += k·(src - memory)`` with ``k = gate↑``, opened further where one sample differs by more than
    ``threshold`` codes, then ``out = gain↑·memory + bias↑``. ``memory`` is fixed point, ``fraction`` units a code.
    """
    maps = np.empty((9, width), np.float32)
    line = np.empty(width, np.float32)
    low, high, current = 0, 3, -1
    units = np.float32(fraction)
    inverse = np.float32(1.0 / fraction)
    quiet = np.float32(threshold)
    escape = np.float32(0.5 / threshold)
    for y in range(start, stop):
        i = top_index[y]
        if i != current:
            low, high = high, low
            if i != current + 1 or current < 0:
                _expand_row(gate[i], factor_x, left_index, left_weight, maps[low])
                _expand_row(gain[i], factor_x, left_index, left_weight, maps[low + 1])
                _expand_row(bias[i], factor_x, left_index, left_weight, maps[low + 2])
            _expand_row(gate[i + 1], factor_x, left_index, left_weight, maps[high])
            _expand_row(gain[i + 1], factor_x, left_index, left_weight, maps[high + 1])
            _expand_row(bias[i + 1], factor_x, left_index, left_weight, maps[high + 2])
            current = i
        w = np.float32(top_weight[y])
        _mix(maps[low], maps[high], w, maps[6])
        _mix(maps[low + 1], maps[high + 1], w, maps[7])
        _mix(maps[low + 2], maps[high + 2], w, maps[8])
        _follow(src[y], memory[y], maps[6], units, inverse, quiet, escape, line)
        _affine(line, maps[7], maps[8], np.float32(peak), out[y])


# The loops below look over-divided; each writes one or two arrays and reads few, because LLVM gives up vectorising
# where it would need more than eight run-time checks that arrays do not overlap.


@njit(**_options)
def _add_moments(guide, target, moments, radius):  # type: ignore[no-untyped-def]
    """Add one row's I, I², O and I·O to the column sums."""
    width = guide.shape[0]
    first, second = moments[0, radius:], moments[1, radius:]
    for x in range(width):
        first[x] += guide[x]
        second[x] += guide[x] * guide[x]
    first, second = moments[2, radius:], moments[3, radius:]
    for x in range(width):
        first[x] += target[x]
        second[x] += guide[x] * target[x]


@njit(**_options)
def _window_mean(sums, radius, scale, out):  # type: ignore[no-untyped-def]
    """Mean over 2r+1 neighbours of column sums whose borders are replicated first; ``sums`` is padded by r."""
    width = out.shape[0]
    for k in range(radius):
        sums[k] = sums[radius]
        sums[width + radius + k] = sums[width + radius - 1]
    if radius == 1:
        for x in range(width):
            out[x] = (sums[x] + sums[x + 1] + sums[x + 2]) * scale
    elif radius == 2:
        for x in range(width):
            out[x] = (sums[x] + sums[x + 1] + sums[x + 2] + sums[x + 3] + sums[x + 4]) * scale
    else:
        for x in range(width):
            total = np.float32(0.0)
            for k in range(2 * radius + 1):
                total += sums[x + k]
            out[x] = total * scale


@njit(**_options)
def fit_rows(guide, target, radius, eps, gain, bias, start, stop):  # type: ignore[no-untyped-def]
    """Least-squares ``target ≈ gain·guide + bias`` in (2r+1)² windows (replicated borders), rows ``start…stop``."""
    height, width = guide.shape
    moments = np.zeros((4, width + 2 * radius), np.float32)
    means = np.empty((4, width), np.float32)
    side = 2 * radius + 1
    n = np.float32(1.0 / (side * side))
    e = np.float32(eps)
    for y in range(start, stop):
        # Sums are made anew for each row: a running sum would drift, and bands would then differ.
        moments[:] = 0.0
        for dy in range(-radius, radius + 1):
            yy = min(max(y + dy, 0), height - 1)
            _add_moments(guide[yy], target[yy], moments, radius)
        for m in range(4):
            _window_mean(moments[m], radius, n, means[m])
        a, b = gain[y], bias[y]
        m_i, m_ii, m_o, m_io = means[0], means[1], means[2], means[3]
        for x in range(width):
            a[x] = (m_io[x] - m_i[x] * m_o[x]) / (max(m_ii[x] - m_i[x] * m_i[x], np.float32(0.0)) + e)
        for x in range(width):
            b[x] = m_o[x] - a[x] * m_i[x]


@njit(**_options)
def smooth_rows(src, radius, out, start, stop):  # type: ignore[no-untyped-def]
    """Box mean of ``src`` (replicated borders) into ``out``, whose extra last row and column repeat the border."""
    height, width = src.shape
    sums = np.empty(width + 2 * radius, np.float32)
    side = 2 * radius + 1
    n = np.float32(1.0 / (side * side))
    for y in range(start, stop):
        sums[:] = 0.0
        body = sums[radius:]
        for dy in range(-radius, radius + 1):
            row = src[min(max(y + dy, 0), height - 1)]
            for x in range(width):
                body[x] += row[x]
        _window_mean(sums, radius, n, out[y, :width])
        out[y, width] = out[y, width - 1]
        if y == height - 1:
            out[height, :] = out[y, :]
