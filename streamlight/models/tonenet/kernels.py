"""What tonenet does to pixels, compiled by numba for CPUs: one pass over the picture for each step.

The torch functions of the same names in :mod:`~streamlight.models.tonenet.tone` and
:mod:`~streamlight.models.tonenet.denoiser` are the reference; these equal them but for rounding, and know neither
gradients nor other devices. They release the GIL and start no threads.

Constants of other modules come in as arguments: numba's cache would not see them change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from streamlight.models.tonenet import denoiser, tone
from streamlight.models.tonenet.arithmetic import exp, log, log1p

# No reassociation: it would cancel what the logarithm is careful about.
_options: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "fastmath": {"nnan", "ninf", "nsz", "arcp", "contract", "afn"},
    "boundscheck": False,
    "error_model": "numpy",  # a check for division by zero keeps a loop from being vectorised
}
_f = np.float32
_i = np.int32


def survey(low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`~streamlight.models.tonenet.tone.survey`."""
    low = low.contiguous()
    count, (rows, columns) = len(low), tone.GRID
    small, features = torch.empty(count, 3, rows, columns), torch.empty(count, 5, rows, columns)
    gain, shares = torch.empty(count), torch.empty(count, tone.BINS)
    edges = [
        (np.arange(cells) * size // cells, -(-np.arange(1, cells + 1) * size // cells))
        for cells, size in ((rows, low.shape[2]), (columns, low.shape[3]))
    ]
    _shrink(low.flatten(0, 1).numpy(), *edges[0], *edges[1], small.flatten(0, 1).numpy())
    _survey(small.numpy(), tone.MAX_GAIN, tone.BEND, features.numpy(), gain.numpy(), shares.numpy())
    return features, gain, shares


def apply_tone(
    latent: Tensor, low: Tensor, *, noise: Tensor | None = None, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """See :func:`~streamlight.models.tonenet.tone.apply_tone`."""
    low, latent = low.contiguous(), latent.contiguous()
    doubt = tone.doubt_scale(noise, like=latent[:, 0])
    curve, saturation = latent[:, 1:].split([tone.KNOTS, tone.SATURATION_KNOTS, 2], dim=1)[:2]
    out, gain = torch.empty_like(low), torch.empty_like(low[:, :1])
    _tone(
        low.numpy(),
        latent.numpy(),
        curve.contiguous().numpy(),
        saturation.contiguous().numpy(),
        doubt.numpy(),
        _f(strength),
        _f(tone.CHROMA_FLOOR),
        _f(tone.NEAR_BLACK),
        out.numpy(),
        gain.numpy(),
    )
    return out, gain


def pack(toned: Tensor, luma: Tensor, gain: Tensor, noise: Tensor, *, dtype: torch.dtype) -> Tensor:
    """See :func:`~streamlight.models.tonenet.denoiser.pack`."""
    height, width = (-(-size // 8) * 4 for size in toned.shape[-2:])
    out = torch.empty(len(toned), height, width, denoiser.IN, dtype=dtype)
    half = dtype == torch.bfloat16
    bits = out.view(torch.int16).numpy().view(np.uint16) if half else out.view(torch.int32).numpy()
    level = denoiser.noise_level(noise).numpy()
    _pack(toned.contiguous().numpy(), luma.numpy(), gain.contiguous().numpy(), level, half, bits)
    return out.permute(0, 3, 1, 2)


def merge(toned: Tensor, answer: Tensor, gain: Tensor, noise: Tensor) -> Tensor:
    """See :func:`~streamlight.models.tonenet.denoiser.merge`."""
    answer = answer.permute(0, 2, 3, 1).contiguous()
    half = answer.dtype == torch.bfloat16
    bits = answer.view(torch.int16).numpy().view(np.uint16) if half else answer.view(torch.int32).numpy()
    out = torch.empty_like(toned, memory_format=torch.contiguous_format)
    scale = (noise * denoiser.TRUST).numpy()
    _merge(
        toned.contiguous().numpy(),
        bits,
        _i(16 if half else 0),
        _f(denoiser.SHARE_SCALE),
        _f(denoiser.SHARE_BIAS),
        gain.contiguous().numpy(),
        scale,
        out.numpy(),
    )
    return out


# Each loop below writes one or two rows and reads few, because LLVM gives up vectorising where it would need more than
# eight run-time checks that arrays do not overlap.


@njit(**_options)
def _polyline(knots, z, out):  # type: ignore[no-untyped-def]
    """Values at ``z`` ≥ 0 of the polyline through evenly spaced knots, the last piece going on: a sum of ramps."""
    last = knots.shape[0] - 1
    out[:] = knots[0]
    for k in range(last - 1):
        step = knots[k + 1] - knots[k]
        for x in range(z.shape[0]):
            out[x] += step * min(max(z[x] * _f(last) - _f(k), _f(0.0)), _f(1.0))
    step = knots[last] - knots[last - 1]
    for x in range(z.shape[0]):
        out[x] += step * max(z[x] * _f(last) - _f(last - 1), _f(0.0))


@njit(**_options)
def _tone(low, latent, curves, saturations, doubts, strength, floor, near_black, out, gain):  # type: ignore[no-untyped-def]
    """``(N, 3, H, W)`` tone-mapped into ``out``, the gain of luma into ``gain``.

    Args:
        low: The dark picture.
        latent: ``(N, LATENT)``, of which the first and the last two are read.
        curves: Knots of the correction.
        saturations: Those of the saturation.
        doubts: Size of the doubt about chroma, ``(N,)``.
        strength: Exponent of all gains.
        floor: Added to luma where chroma is measured by it.
        near_black: Luma up to which chroma is doubted.
        out: The bright picture.
        gain: ``(N, 1, H, W)``.
    """
    height, width = low.shape[2:]
    luma, z, correction, factor = np.empty(width, _f), np.empty(width, _f), np.empty(width, _f), np.empty(width, _f)
    for n in range(low.shape[0]):
        bend, steep = _bend(np.exp(latent[n, 0]))
        doubt = doubts[n] * strength
        for y in range(height):
            bright, lift = out[n, 0, y], gain[n, 0, y]
            _coordinate(low[n, 0, y], bend, steep, luma, z)
            _polyline(curves[n], z, correction)
            _brighten(luma, z, correction, bright, lift)
            _polyline(saturations[n], z, correction)
            _color_gain(luma, bright, correction, floor, factor)
            if strength != _f(1.0):
                _power(lift, strength)
                _power(factor, strength)
                for x in range(width):
                    bright[x] = luma[x] * lift[x]
            _believe(luma, lift, low[n, 1, y], low[n, 2, y], near_black, doubt, factor)
            for c in range(1, 3):
                cast = strength * latent[n, latent.shape[1] - 3 + c]
                _color(low[n, c, y], luma, bright, factor, cast, strength, out[n, c, y])


@njit(**_options)
def _bend(gain):  # type: ignore[no-untyped-def]
    """λ of the base curve, as :func:`~streamlight.models.tonenet.tone.bend` finds it, and e^λ - 1."""
    gain = np.float64(gain)
    value = 2.0 * np.log(gain) + 1e-3
    for _ in range(7):
        value -= (np.expm1(value) - gain * value) / max(np.exp(value) - gain, 1e-4)
    value = max(value, 1e-3)
    return _f(value), _f(np.expm1(value))


@njit(**_options)
def _coordinate(dark, bend, steep, luma, z):  # type: ignore[no-untyped-def]
    for x in range(dark.shape[0]):
        luma[x] = max(dark[x], _f(0.0))
    for x in range(dark.shape[0]):
        z[x] = log1p(steep * luma[x]) / bend


@njit(**_options)
def _brighten(luma, z, correction, bright, gain):  # type: ignore[no-untyped-def]
    """The curve, its shoulder, and the gain that comes of them."""
    for x in range(luma.shape[0]):
        value = z[x] * exp(correction[x])
        over = max(value - _f(0.85), _f(0.0))
        value = value - over + _f(0.15) * (_f(1.0) - exp(over * _f(-1.0 / 0.15)))
        bright[x] = max(value, luma[x])
    for x in range(luma.shape[0]):
        gain[x] = (bright[x] + _f(1e-3)) / (luma[x] + _f(1e-3))


@njit(**_options)
def _color_gain(luma, bright, saturation, floor, out):  # type: ignore[no-untyped-def]
    for x in range(luma.shape[0]):
        out[x] = max(bright[x] / (luma[x] + floor), _f(1.0)) * exp(saturation[x])


@njit(**_options)
def _power(values, exponent):  # type: ignore[no-untyped-def]
    """Raise values, which are positive, to a power."""
    for x in range(values.shape[0]):
        values[x] = exp(exponent * log(values[x]))


@njit(**_options)
def _believe(luma, gain, blue, red, near_black, doubt, factor):  # type: ignore[no-untyped-def]
    """Multiply the gain of chroma by the trust in it."""
    for x in range(luma.shape[0]):
        near = max(_f(2.0) - luma[x] * (_f(2.0) / near_black), _f(0.0))
        steps = (near + min((gain[x] - _f(1.0)) * _f(0.25), _f(1.0))) * doubt
        energy = blue[x] * blue[x] + red[x] * red[x]
        factor[x] *= energy / (energy + steps * steps + _f(1e-12))


@njit(**_options)
def _color(dark, luma, bright, factor, cast, strength, out):  # type: ignore[no-untyped-def]
    for x in range(dark.shape[0]):
        chroma = dark[x] * factor[x] + cast * (bright[x] - luma[x])
        share = chroma / min(max(_f(1.0) - bright[x], _f(0.02)), _f(0.5))
        out[x] = chroma / np.sqrt(_f(1.0) + strength * share * share)


@njit(**_options)
def _survey(small, max_gain, steeper, features, gain, shares):  # type: ignore[no-untyped-def]
    """Facts about coarse pictures (N, 3, h, w), see :func:`survey`."""
    rows, columns = small.shape[2:]
    bins = shares.shape[1]
    logs, sums, luma = np.empty(columns, _f), np.empty((2, columns), _f), np.empty(columns, _f)
    for n in range(small.shape[0]):
        sums[:] = _f(0.0)
        for i in range(rows):
            _add_levels(small[n, 0, i], logs, sums[0], sums[1])
        mean, log_mean = np.float64(0.0), np.float64(0.0)
        for j in range(columns):
            mean += sums[0, j]
            log_mean += sums[1, j]
        geometric = np.exp(log_mean / (rows * columns)) - 0.01
        straight = 0.4 / (0.5 * mean / (rows * columns) + 0.5 * geometric + 0.004)
        gain[n] = 1.0 + steeper * (min(max(straight, 1.0), max_gain) - 1.0)
        bend, steep = _bend(gain[n])
        features[n, 4] = np.log2(gain[n]) / _f(5.0)
        shares[n] = _f(0.0)
        for i in range(rows):
            z, plain = features[n, 0, i], features[n, 3, i]
            _coordinate(small[n, 0, i], bend, steep, luma, z)
            for c in range(1, 3):
                _weigh_chroma(small[n, c, i], luma, gain[n], features[n, c, i])
            for j in range(columns):
                shares[n, min(_i(z[j] * _f(bins)), bins - 1)] += _f(1.0)
            for j in range(columns):
                z[j] = z[j] * _f(1.4) - _f(0.7)
            for j in range(columns):
                plain[j] = luma[j] - _f(0.3)
        for k in range(bins):
            shares[n, k] = np.sqrt(shares[n, k] / _f(rows * columns))


@njit(**_options)
def _add_levels(luma, logs, levels, log_levels):  # type: ignore[no-untyped-def]
    """Add a row of luma, and its logarithms, to sums of columns."""
    for x in range(luma.shape[0]):
        logs[x] = min(max(luma[x], _f(0.0)), _f(1.0))
    for x in range(luma.shape[0]):
        levels[x] += logs[x]
    for x in range(luma.shape[0]):
        log_levels[x] += log(logs[x] + _f(0.01))


@njit(**_options)
def _weigh_chroma(chroma, luma, gain, out):  # type: ignore[no-untyped-def]
    for x in range(chroma.shape[0]):
        out[x] = chroma[x] * (_f(2.0) * gain / (_f(1.0) + luma[x] * gain))


@njit(**_options)
def _shrink(planes, top, bottom, left, right, out):  # type: ignore[no-untyped-def]
    """Means of ``planes`` (P, H, W) over rows top…bottom and columns left…right of each cell of ``out``."""
    width = planes.shape[2]
    sums = np.empty(width, _f)
    for p in range(planes.shape[0]):
        for i in range(out.shape[1]):
            sums[:] = planes[p, top[i]]
            for y in range(top[i] + 1, bottom[i]):
                for x in range(width):
                    sums[x] += planes[p, y, x]
            for j in range(out.shape[2]):
                total = _f(0.0)
                for x in range(left[j], right[j]):
                    total += sums[x]
                out[p, i, j] = total / _f((bottom[i] - top[i]) * (right[j] - left[j]))


@njit(**_options)
def _pack(toned, luma, gain, level, half, out):  # type: ignore[no-untyped-def]
    """Features of 2x2 pixels into ``out`` (N, H/2, W/2, features), bits of float32 or, where ``half``, of bfloat16."""
    height = toned.shape[2]
    rows, columns, count = out.shape[1:]
    sums = np.empty((2, 2 * columns), _f)
    features = np.empty((count, columns), _f)
    bits = features.view(_i)
    for n in range(toned.shape[0]):
        for i in range(rows):
            top, bottom = min(2 * i, height - 1), min(2 * i + 1, height - 1)
            for c in range(3):
                scale, shift = (_f(1.0), _f(0.45)) if c == 0 else (_f(2.0), _f(0.0))
                _split(toned[n, c, top], scale, shift, features[4 * c], features[4 * c + 1])
                _split(toned[n, c, bottom], scale, shift, features[4 * c + 2], features[4 * c + 3])
            _sum(luma[n, 0, top], luma[n, 0, bottom], sums[0])
            _sum(gain[n, 0, top], gain[n, 0, bottom], sums[1])
            features[count - 1] = level[n]
            _facts(sums[0], sums[1], features[count - 3], features[count - 2])
            if half:
                _round(bits.reshape(-1))
            _interleave(bits, out[n, i])


@njit(**_options)
def _split(row, scale, shift, even, odd):  # type: ignore[no-untyped-def]
    """Even and odd columns of a row whose last column is repeated."""
    width = row.shape[0]
    for x in range(width // 2):
        even[x] = row[2 * x] * scale - shift
        odd[x] = row[2 * x + 1] * scale - shift
    last = row[width - 1] * scale - shift
    for x in range(width // 2, even.shape[0]):
        even[x] = last
        odd[x] = last


@njit(**_options)
def _sum(first, second, out):  # type: ignore[no-untyped-def]
    """Sum of two rows whose last column is repeated."""
    width = first.shape[0]
    for x in range(width):
        out[x] = first[x] + second[x]
    for x in range(width, out.shape[0]):
        out[x] = out[width - 1]


@njit(**_options)
def _facts(luma, gain, first, second):  # type: ignore[no-untyped-def]
    """Features of the sums of two rows."""
    for x in range(first.shape[0]):
        first[x] = np.sqrt(max((luma[2 * x] + luma[2 * x + 1]) * _f(0.25), _f(0.0)) + _f(1e-4)) - _f(0.4)
    for x in range(second.shape[0]):
        mean = (gain[2 * x] + gain[2 * x + 1]) * _f(0.25)
        second[x] = log(mean + _f(0.1)) * _f(0.2 * 1.4426950408889634)


@njit(**_options)
def _round(bits):  # type: ignore[no-untyped-def]
    """Bits of float32, rounded to the nearest bfloat16 (to the even of two) and shifted into place."""
    for x in range(bits.shape[0]):
        bits[x] = (bits[x] + _i(0x7FFF) + ((bits[x] >> _i(16)) & _i(1))) >> _i(16)


@njit(**_options)
def _interleave(bits, out):  # type: ignore[no-untyped-def]
    for k in range(out.shape[1]):
        for x in range(out.shape[0]):
            out[x, k] = bits[k, x]


@njit(**_options)
def _merge(toned, answer, shift, share_scale, share_bias, gain, scale, out):  # type: ignore[no-untyped-def]
    """Blurs by shares and residuals (N, H/2, W/2, 16), as bits of a float but for the last ``shift``, weighted."""
    height, width = toned.shape[2:]
    columns = answer.shape[2]
    weight, wide = np.empty(width, _f), np.empty(width, _f)
    line, small = np.empty(2 * columns, _f), np.empty(columns, _f)
    bits, small_bits = line.view(_i), small.view(_i)
    shares = np.empty((4, 2 * columns), _f)
    narrow = np.empty((3, 5, width), _f)  # of the rows y - 2 to y + 2, at their number modulo 5
    nothing, sums = np.zeros(width, _f), np.zeros(width + 4, _f)
    per_3, per_5 = _inverse_counts(width, 1), _inverse_counts(width, 2)
    for n in range(toned.shape[0]):
        for y in range(height):
            for x in range(width):
                weight[x] = min(max((gain[n, 0, y, x] - _f(1.0)) * scale[n], _f(0.0)), _f(1.0))
            source = answer[n, y >> 1]
            if y & 1 == 0:
                for k in range(4):
                    for x in range(columns):
                        small_bits[x] = _i(source[x, 12 + k]) << shift
                    _share(small, share_scale, share_bias, shares[k])
            for c in range(3):
                for ahead in range(0 if y == 0 else y + 2, min(y + 3, height)):
                    above = toned[n, c, ahead - 1] if ahead > 0 else nothing
                    below = toned[n, c, ahead + 1] if ahead + 1 < height else nothing
                    _sum_3(above, toned[n, c, ahead], below, sums)
                    count = min(ahead + 2, height) - max(ahead - 1, 0)
                    _mean_3(sums, per_3, _f(1.0) / _f(count), narrow[c, ahead % 5])
                # The ring still holds rows from before the top, or from the picture before.
                _sum_5(
                    narrow[c, (y - 2) % 5] if y > 1 else nothing,
                    narrow[c, (y - 1) % 5] if y > 0 else nothing,
                    narrow[c, y % 5],
                    narrow[c, (y + 1) % 5] if y + 1 < height else nothing,
                    narrow[c, (y + 2) % 5] if y + 2 < height else nothing,
                    sums,
                )
                _mean_5(sums, per_5, _f(1.0) / _f(min(y + 3, height) - max(y - 2, 0)), wide)
                k = 4 * c + 2 * (y & 1)
                for x in range(columns):
                    bits[2 * x] = _i(source[x, k]) << shift
                    bits[2 * x + 1] = _i(source[x, k + 1]) << shift
                first, second = (shares[0], shares[1]) if c == 0 else (shares[2], shares[3])
                _mix(toned[n, c, y], narrow[c, y % 5], wide, first, second, line, weight, out[n, c, y])


@njit(**_options)
def _inverse_counts(width, radius):  # type: ignore[no-untyped-def]
    """One over the number of neighbours within ``radius`` that each column has, itself included."""
    counts = np.empty(width, _f)
    for x in range(width):
        counts[x] = _f(1.0) / _f(min(x + radius + 1, width) - max(x - radius, 0))
    return counts


@njit(**_options)
def _share(answer, scale, bias, out):  # type: ignore[no-untyped-def]
    for x in range(answer.shape[0]):
        answer[x] = _f(1.0) / (_f(1.0) + exp(-(answer[x] * scale + bias)))
    for x in range(answer.shape[0]):
        out[2 * x] = answer[x]
        out[2 * x + 1] = answer[x]


@njit(**_options)
def _sum_3(a, b, c, out):  # type: ignore[no-untyped-def]
    """Sum of rows, between two columns of nothing on either side."""
    inner = out[2:]
    for x in range(b.shape[0]):
        inner[x] = a[x] + b[x] + c[x]


@njit(**_options)
def _sum_5(a, b, c, d, e, out):  # type: ignore[no-untyped-def]
    inner = out[2:]
    for x in range(c.shape[0]):
        inner[x] = a[x] + b[x] + c[x] + d[x] + e[x]


@njit(**_options)
def _mean_3(sums, inverse, scale, out):  # type: ignore[no-untyped-def]
    """Over 3 columns of ``sums``, as :func:`_sum_3` leaves them."""
    for x in range(out.shape[0]):
        out[x] = (sums[x + 1] + sums[x + 2] + sums[x + 3]) * (inverse[x] * scale)


@njit(**_options)
def _mean_5(sums, inverse, scale, out):  # type: ignore[no-untyped-def]
    """The same over 5."""
    for x in range(out.shape[0]):
        out[x] = (sums[x] + sums[x + 1] + sums[x + 2] + sums[x + 3] + sums[x + 4]) * (inverse[x] * scale)


@njit(**_options)
def _mix(toned, narrow, wide, first, second, residual, weight, out):  # type: ignore[no-untyped-def]
    for x in range(toned.shape[0]):
        change = first[x] * (narrow[x] - toned[x]) + second[x] * (wide[x] - narrow[x]) + residual[x]
        out[x] = toned[x] + change * weight[x]
