"""What tonenet does to pixels, compiled by numba for CPUs: one pass over the picture for each step.

The torch functions of the same names in :mod:`~streamlight.models.tonenet.tone` and
:mod:`~streamlight.models.tonenet.denoiser` are the reference; these equal them but for rounding, and know neither
gradients nor other devices. They release the GIL and start no threads.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numba import njit
from torch import Tensor

from streamlight.models.tonenet import denoiser, tone
from streamlight.models.tonenet.tone import KNOTS, SATURATION_KNOTS

# No reassociation: it would cancel what the logarithm is careful about.
_options: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "fastmath": {"nnan", "ninf", "nsz", "arcp", "contract", "afn"},
    "boundscheck": False,
    "error_model": "numpy",  # a check for division by zero keeps a loop from being vectorised
}
_inline: dict[str, Any] = {**_options, "inline": "always"}
_f = np.float32
_i = np.int32


def shrink(low: Tensor) -> Tensor:
    """See :func:`~streamlight.models.tonenet.tone.shrink`."""
    low = low.contiguous()
    rows, columns = tone.GRID
    out = torch.empty(*low.shape[:2], rows, columns)
    edges = [
        (np.arange(count) * size // count, -(-np.arange(1, count + 1) * size // count))
        for count, size in ((rows, low.shape[2]), (columns, low.shape[3]))
    ]
    _shrink(low.flatten(0, 1).numpy(), *edges[0], *edges[1], out.flatten(0, 1).numpy())
    return out


def apply_tone(
    latent: Tensor, low: Tensor, *, noise: Tensor | None = None, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """See :func:`~streamlight.models.tonenet.tone.apply_tone`."""
    low, latent = low.contiguous(), latent.contiguous()
    bend = tone.bend(latent[:, 0].exp())
    scalars = torch.stack([bend, torch.expm1(bend), tone.doubt_scale(noise, like=bend)], 1)
    out, gain = torch.empty_like(low), torch.empty_like(low[:, :1])
    _tone(low.numpy(), latent.numpy(), scalars.numpy(), _f(strength), out.numpy(), gain.numpy())
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
    _merge(toned.contiguous().numpy(), bits, _i(16 if half else 0), gain.contiguous().numpy(), scale, out.numpy())
    return out


# Mathematics. Without a vector library numba calls exp and log once for each pixel; these vectorise.

_LOG2_E: Final = _f(1.44269504)
_LN_2_HIGH: Final = _f(0.693359375)
_LN_2_LOW: Final = _f(-2.12194440e-4)
_LN_2: Final = _f(0.69314718)


@njit(**_inline)
def _log1p(t):  # type: ignore[no-untyped-def]
    """log(1 + t) for t > -0.25, with the relative accuracy that small t need; 1.5e-7."""
    bits = _f(t + _f(1.0)).view(_i)
    exponent = (bits - _i(0x3F400000)) >> _i(23)
    mantissa = _i(bits - (exponent << _i(23))).view(_f)  # [0.75, 1.5)
    return _log_near_1(t if exponent == 0 else mantissa - _f(1.0)) + _f(exponent) * _LN_2


@njit(**_inline)
def _log(u):  # type: ignore[no-untyped-def]
    """log(u) for normal u > 0."""
    bits = _f(u).view(_i)
    exponent = (bits - _i(0x3F400000)) >> _i(23)
    return _log_near_1(_i(bits - (exponent << _i(23))).view(_f) - _f(1.0)) + _f(exponent) * _LN_2


@njit(**_inline)
def _log_near_1(f):  # type: ignore[no-untyped-def]
    """log(1 + f) for f in [-0.25, 0.5]."""
    p = _f(0.05425942529)
    p = p * f - _f(0.120915211)
    p = p * f + _f(0.1499683244)
    p = p * f - _f(0.16822814)
    p = p * f + _f(0.1997555392)
    p = p * f - _f(0.2499326355)
    p = p * f + _f(0.3333360253)
    p = p * f - _f(0.5000006599)
    p = p * f + _f(1.0)
    return p * f


@njit(**_inline)
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x), relative accuracy 1.5e-7; ends at e^±87."""
    x = min(max(x, _f(-87.0)), _f(87.0))
    n = np.floor(x * _LOG2_E + _f(0.5))
    r = x - n * _LN_2_HIGH - n * _LN_2_LOW
    p = _f(0.001394976924)
    p = p * r + _f(0.008375961219)
    p = p * r + _f(0.04166620025)
    p = p * r + _f(0.1666640538)
    p = p * r + _f(0.5000000114)
    p = p * r + _f(1.0)
    p = p * r + _f(1.0)
    return p * _i((_i(n) + _i(127)) << _i(23)).view(_f)


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
def _tone(low, latent, scalars, strength, out, gain):  # type: ignore[no-untyped-def]
    """``(N, 3, H, W)`` tone-mapped into ``out``, the gain of luma into ``gain``.

    Args:
        low: The dark picture.
        latent: ``(N, LATENT)``.
        scalars: For each picture λ of the base curve, e^λ - 1, and the size of the doubt about chroma.
        strength: Exponent of all gains.
        out: The bright picture.
        gain: ``(N, 1, H, W)``.
    """
    height, width = low.shape[2:]
    luma, z, correction, factor = np.empty(width, _f), np.empty(width, _f), np.empty(width, _f), np.empty(width, _f)
    for n in range(low.shape[0]):
        curve, saturation = latent[n, 1 : 1 + KNOTS], latent[n, 1 + KNOTS : 1 + KNOTS + SATURATION_KNOTS]
        bend, steep, doubt = scalars[n, 0], scalars[n, 1], scalars[n, 2] * strength
        for y in range(height):
            bright, lift = out[n, 0, y], gain[n, 0, y]
            _coordinate(low[n, 0, y], bend, steep, luma, z)
            _polyline(curve, z, correction)
            _brighten(luma, z, correction, bright, lift)
            _polyline(saturation, z, correction)
            _color_gain(luma, bright, correction, factor)
            if strength != _f(1.0):
                _power(lift, strength)
                _power(factor, strength)
                for x in range(width):
                    bright[x] = luma[x] * lift[x]
            _believe(luma, lift, low[n, 1, y], low[n, 2, y], doubt, factor)
            for c in range(1, 3):
                cast = strength * latent[n, KNOTS + SATURATION_KNOTS + c]
                _color(low[n, c, y], luma, bright, factor, cast, strength, out[n, c, y])


@njit(**_options)
def _coordinate(dark, bend, steep, luma, z):  # type: ignore[no-untyped-def]
    for x in range(dark.shape[0]):
        luma[x] = max(dark[x], _f(0.0))
    for x in range(dark.shape[0]):
        z[x] = _log1p(steep * luma[x]) / bend


@njit(**_options)
def _brighten(luma, z, correction, bright, gain):  # type: ignore[no-untyped-def]
    """The curve, its shoulder, and the gain that comes of them."""
    for x in range(luma.shape[0]):
        value = z[x] * _exp(correction[x])
        over = max(value - _f(0.85), _f(0.0))
        value = value - over + _f(0.15) * (_f(1.0) - _exp(over * _f(-1.0 / 0.15)))
        bright[x] = max(value, luma[x])
    for x in range(luma.shape[0]):
        gain[x] = (bright[x] + _f(1e-3)) / (luma[x] + _f(1e-3))


@njit(**_options)
def _color_gain(luma, bright, saturation, out):  # type: ignore[no-untyped-def]
    for x in range(luma.shape[0]):
        out[x] = max(bright[x] / (luma[x] + _f(tone.CHROMA_FLOOR)), _f(1.0)) * _exp(saturation[x])


@njit(**_options)
def _power(values, exponent):  # type: ignore[no-untyped-def]
    """Raise values, which are positive, to a power."""
    for x in range(values.shape[0]):
        values[x] = _exp(exponent * _log(values[x]))


@njit(**_options)
def _believe(luma, gain, blue, red, doubt, factor):  # type: ignore[no-untyped-def]
    """Multiply the gain of chroma by the trust in it."""
    for x in range(luma.shape[0]):
        near = max(_f(2.0) - luma[x] * _f(2.0 / tone.NEAR_BLACK), _f(0.0))
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
        second[x] = _log(mean + _f(0.1)) * _f(0.2 * 1.4426950408889634)


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
def _merge(toned, answer, shift, gain, scale, out):  # type: ignore[no-untyped-def]
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
                    _share(small, shares[k])
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
def _share(answer, out):  # type: ignore[no-untyped-def]
    for x in range(answer.shape[0]):
        value = answer[x] * _f(-denoiser.SHARE_SCALE) - _f(denoiser.SHARE_BIAS)
        answer[x] = _f(1.0) / (_f(1.0) + _exp(value))
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
