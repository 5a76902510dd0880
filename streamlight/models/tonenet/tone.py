"""Tone: a logarithmic curve in closed form, a correction and a saturation on top, and the network that chooses them.

An exposure change is a factor in gamma-encoded values too (a power law keeps factors), so the closed-form gain of the
shadows brings pictures of every exposure to about the same place. The curve that carries it bends by itself towards
white (Weber-Fechner; cf. Drago et al., Eurographics 2003), so that lit walls and lamps keep their shape before anything
is learnt; the network only corrects it.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.nn.initial import he_normal

KNOTS: Final = 8
SATURATION_KNOTS: Final = 4
LATENT: Final = 1 + KNOTS + SATURATION_KNOTS + 2
"""Log gain of black, log correction at the knots of the curve, log saturation at its knots, two colour casts."""

GRID: Final = (96, 144)
"""Rows and columns of the picture that the network decides on."""

BINS: Final = 32
"""Of the histogram that it decides on."""

MAX_GAIN: Final = 20.0
BEND: Final = 1.8
"""How much steeper the curve starts than a straight gain of the same effect, because it bends."""

_MAX_LOG_GAIN: Final = 3.0
CHROMA_FLOOR: Final = 0.015
_CODE: Final = 1.0 / 219.0
NEAR_BLACK: Final = 14.0 * _CODE
_DOUBT: Final = 1.5 / 224.0


def black_gain(luma: Tensor) -> Tensor:
    """The gain of black that lifts the middle of a picture to about 0.4, ``(N,)``, at least 1.

    The middle is the mean of the arithmetic and the geometric mean: a few lamps must not keep a street dark.

    Args:
        luma: ``(N, 1, H, W)`` float, [0, 1].
    """
    flat = luma.flatten(1).clamp(0.0, 1.0)
    geometric = (flat + 0.01).log().mean(1).exp() - 0.01
    straight = (0.4 / (0.5 * flat.mean(1) + 0.5 * geometric + 0.004)).clamp(1.0, MAX_GAIN)
    return 1.0 + BEND * (straight - 1.0)


def coordinate(luma: Tensor, gain: Tensor) -> Tensor:
    """Luma on the logarithmic curve ``log(1 + (e^λ - 1) v) / λ``: 0 → 0, 1 → 1, slope ``gain`` at 0.

    It is where on the correction a pixel lies too: uniform steps of luma itself would spend one knot on the whole of a
    dark picture.

    Args:
        luma: ``(N, 1, H, W)``.
        gain: ``(N,)``, at least 1.
    """
    curvature = bend(gain)[:, None, None, None]
    return torch.log1p(torch.expm1(curvature) * luma.clamp_min(0.0)) / curvature


def bend(gain: Tensor) -> Tensor:
    """λ of the logarithmic curve whose slope at 0 is ``gain``, at least 1; ``(N,)``."""
    value = 2.0 * gain.log() + 1e-3  # right of the root of e^λ - 1 = gain·λ, from where Newton's steps lead to it
    for _ in range(7):
        value = value - (torch.expm1(value) - gain * value) / (value.exp() - gain).clamp_min(1e-4)
    return value.clamp_min(1e-3)


def apply_tone(
    latent: Tensor, low: Tensor, *, noise: Tensor | None = None, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Tone-map a picture pixel by pixel.

    Args:
        latent: ``(N, LATENT)``.
        low: ``(N, 3, H, W)`` YCbCr, luma in [0, 1], chroma in [-0.5, 0.5].
        noise: Standard deviation of its luma noise, ``(N,)``; None is none.
        strength: Exponent of all gains; 0 gives ``low`` back.

    Returns:
        The bright picture, and the gain of luma, ``(N, 1, H, W)``, at least 1.
    """
    log_k, curve, saturation, cast = latent.split([1, KNOTS, SATURATION_KNOTS, 2], dim=1)
    luma = low[:, :1].clamp_min(0.0)
    z = coordinate(luma, log_k[:, 0].exp())
    # Nothing gets darker than it was: a lamp at the end of the scale stays white.
    bright = torch.maximum(shoulder(z * _piecewise(curve, z).exp()), luma)
    gain = (bright + 1e-3) / (luma + 1e-3)
    color_gain = (bright / (luma + CHROMA_FLOOR)).clamp_min(1.0) * _piecewise(saturation, z).exp()
    if strength != 1.0:
        gain, color_gain = gain**strength, color_gain**strength
        bright = luma * gain
    chroma = low[:, 1:]
    # A chroma offset of a code or two is the camera's or the encoder's, not the scene's, and the gain would make it a
    # coloured sheet.
    doubt = (2.0 - luma * (2.0 / NEAR_BLACK)).clamp_min(0.0) + ((gain - 1.0) * 0.25).clamp_max(1.0)
    doubt = doubt * (doubt_scale(noise, like=latent[:, 0])[:, None, None, None] * strength)
    energy = chroma.square().sum(1, keepdim=True)
    trust = energy / (energy + doubt.square() + 1e-12)
    chroma = chroma * (color_gain * trust) + strength * cast[:, :, None, None] * (bright - luma)
    # YCbCr leaves room for colour only away from white; without this lamps turn into flat coloured discs.
    room = (1.0 - bright).clamp(0.02, 0.5)
    chroma = chroma * (1.0 + strength * (chroma / room).square()).rsqrt()
    return torch.cat([bright, chroma], 1), gain


def doubt_scale(noise: Tensor | None, *, like: Tensor) -> Tensor:
    """How far chroma of near-black is doubted, ``(N,)``: less in a noisy picture, since grain carries finer steps.

    Args:
        noise: Standard deviation of the luma noise, ``(N,)``; None is none.
        like: ``(N,)``, whose type and device to take.
    """
    if noise is None:
        return torch.full_like(like, _DOUBT)
    return _DOUBT * (1.25 - noise * (2.0 / _CODE)).clamp(0.3, 1.0)


def survey(low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :class:`ToneNet` decides on.

    Args:
        low: ``(N, 3, H, W)`` YCbCr.

    Returns:
        Features of a coarse copy, ``(N, 5, *GRID)``; the gain of black, ``(N,)``; square root of the share of pixels in
        each bin of the curve's coordinate, ``(N, BINS)``.
    """
    small = F.adaptive_avg_pool2d(low, GRID)
    luma = small[:, :1].clamp_min(0.0)
    k = black_gain(luma)
    gain = k[:, None, None, None]
    z = coordinate(luma, k)
    chroma = small[:, 1:] * (2.0 * gain / (1.0 + luma * gain))
    features = torch.cat([z * 1.4 - 0.7, chroma, luma - 0.3, z.new_zeros(z.shape) + gain.log2() / 5.0], 1)
    return features, k, _histogram(z)


def shoulder(value: Tensor) -> Tensor:
    """Identity up to 0.85, then approaching 1 smoothly."""
    over = (value - 0.85).clamp_min(0.0)
    return value - over - 0.15 * torch.expm1(-over / 0.15)


def _piecewise(knots: Tensor, z: Tensor) -> Tensor:
    """Values at ``z`` of the polyline through evenly spaced ``knots``, ``(N, K)`` → the shape of ``z``."""
    last = knots.shape[1] - 1
    place = z.flatten(1) * last
    index = place.detach().floor().clamp(0, last - 1).long()
    below, above = knots.gather(1, index), knots.gather(1, index + 1)
    return torch.lerp(below, above, place - index).view_as(z)


class ToneNet(nn.Module):
    """Chooses the latent of :func:`apply_tone` for a picture and a look.

    Args:
        widths: Channels of the four stages.
        hidden: Width of the head.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 32, 48), hidden: int = 96) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        before = 5
        for width in widths:
            self.stages.append(nn.Conv2d(before, width, 3, stride=2, padding=1))
            before = width
        self.mix = nn.Conv2d(before, before, 3, padding=1)
        self.hidden = nn.Linear(2 * before + BINS + 3, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, LATENT - 1)
        # It starts as the curve in closed form.
        he_normal(self, last=self.head, std=1e-3)

    def forward(self, low: Tensor, noise: Tensor, look: Tensor) -> Tensor:
        """The latent, ``(N, LATENT)``.

        Args:
            low: ``(N, 3, H, W)`` YCbCr.
            noise: Standard deviation of its luma noise, ``(N,)``.
            look: 0 for night to 1 for day, ``(N,)``.
        """
        return self.choose(*survey(low), noise, look)

    def choose(self, x: Tensor, k: Tensor, histogram: Tensor, noise: Tensor, look: Tensor) -> Tensor:
        """The same for what :func:`survey` gives, ``x``, ``k`` and ``histogram``."""
        for stage in self.stages:
            x = F.leaky_relu(stage(x), 0.1)
        x = F.leaky_relu(self.mix(x), 0.1)
        level = (noise * k).clamp(1e-4, 1.0).log2() / 5.0 + 1.0
        facts = torch.stack([k.log2() / 5.0, level, look * 2.0 - 1.0], 1)
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3)), histogram, facts], 1)
        x = F.leaky_relu(self.hidden(x), 0.1)
        x = F.leaky_relu(self.hidden2(x), 0.1)
        curve, rest = self.head(x).split([KNOTS, SATURATION_KNOTS + 2], dim=1)
        curve = _MAX_LOG_GAIN * torch.tanh(curve / _MAX_LOG_GAIN)
        saturation, cast = rest.split([SATURATION_KNOTS, 2], dim=1)
        return torch.cat([k.log()[:, None], curve, saturation.clamp(-1.5, 1.5), 0.3 * cast], 1)


def _histogram(z: Tensor) -> Tensor:
    """Square root of the share of pixels in each of the bins, ``(N, bins)``."""
    index = (z.flatten(1) * BINS).long().clamp(0, BINS - 1)
    counts = z.new_zeros(len(z), BINS).scatter_add_(1, index, torch.ones_like(z).flatten(1))
    return (counts / index.shape[1]).sqrt()
