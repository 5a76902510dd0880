"""A retinex-style tone model without weights.

Luma is seen as illumination times reflectance (Land & McCann, 1971). The illumination is a smooth, edge-aware base
layer of log luma (fast guided filter, He & Sun, arXiv:1505.00996); it alone is compressed by a logarithmic curve
(Weber-Fechner; cf. Drago et al., Eurographics 2003), so that the detail on top keeps its contrast. One number per
frame, the exposure, decides how far; it is solved for on the frame's luma quantiles.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.models.protocol import Condition, ModelCard, Prior, Recall

_LEVELS: Final = 128
_CANDIDATES: Final = 96
_MAX_LAMBDA: Final = 6.0


class Retinex:
    """Exposure, illumination and saturation from statistics of the dark picture.

    The latent is ``(N, 3)``: exposure λ ≥ 0 of the curve ``log(1 + (e^λ - 1)·v) / λ``, black level, saturation.

    Args:
        target: Luma that the picture's middle (mean and geometric mean, half each) is lifted to, in (0, 1).
        max_gain: Largest gain of the deepest shadows.
        noise_limit: Largest luma noise allowed after the gain, as a standard deviation in [0, 1] luma.
        locality: Share of the base layer in the illumination, 0 (one global curve) to 1.
    """

    card = ModelCard(
        name="retinex",
        summary="Exposure and illumination from statistics; no weights, any device",
        revision="1",
        color="ycbcr",
        latent="(N, 3): exposure, black level, saturation",
        global_latent=True,
        needs_global_context=True,
        dtypes=("float32",),
    )
    temperature = 0.0

    def __init__(
        self,
        *,
        target: float = 0.38,
        max_gain: float = 28.0,
        noise_limit: float = 0.035,
        locality: float = 0.6,
    ) -> None:
        self.target = target
        self.max_gain = max_gain
        self.noise_limit = noise_limit
        self.locality = locality

    def to(self, device: str | torch.device) -> Retinex:
        """Nothing to move: it works where the picture is."""
        return self

    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """Luma quantiles, chroma spread and the base layer of ``low`` ((N, 3, H, W), YCbCr).

        Args:
            low: Luma in [0, 1], chroma in [-0.5, 0.5], float32.
            noise: Standard deviation of the luma noise, ``(N,)``; bounds the gain.
            recall: Not used: what it decides is smoothed by its caller.
        """
        luma = low[:, :1].clamp(0.0, 1.0)
        coarse = _shrink(luma)
        flat = coarse.flatten(1)
        ranks = torch.linspace(0, flat.shape[1] - 1, _LEVELS, device=low.device).round().long()
        levels = flat.sort(dim=1).values[:, ranks]
        chroma = _shrink(low[:, 1:]).abs().amax(1).flatten(1)
        spread = chroma.kthvalue(max(1, round(0.98 * chroma.shape[1])), dim=1).values
        light = self._illumination(luma, coarse)
        features = {"levels": levels, "spread": spread, "luma": luma, "light": light}
        if noise is not None:
            features["noise"] = noise
        return Condition(low, features)

    def prior(self, condition: Condition) -> Prior:
        """Solve the exposure that lifts the middle of the picture to the target."""
        levels = condition.features["levels"]
        # The darkest level counts as black only where most of the picture is well above it: fog and glare, not a wall.
        black = torch.minimum(0.9 * levels[:, :1], 0.35 * levels.mean(1, keepdim=True)).clamp(0.0, 0.06)
        values = ((levels - black) / (1.0 - black)).clamp_min(0.0)
        lambdas = torch.linspace(0.0, _MAX_LAMBDA, _CANDIDATES, device=levels.device)
        toned = _curve(values[:, None, :], lambdas[None, :, None])
        middle = 0.3 * toned.mean(-1) + 0.7 * ((toned + 0.01).log().mean(-1).exp() - 0.01)

        gain = torch.expm1(lambdas) / lambdas.clamp_min(1e-3)
        limit = torch.full_like(levels[:, 0], self.max_gain)
        if "noise" in condition.features:
            limit = torch.minimum(limit, self.noise_limit / condition.features["noise"].clamp_min(1e-6))
        allowed = (middle <= self.target) & (gain[None] <= limit.clamp_min(1.5)[:, None])
        # The middle grows with λ, so the candidates allowed are a prefix; interpolate at its end where that is known.
        last = (allowed.sum(1) - 1).clamp(0, _CANDIDATES - 2)
        below, above = middle.gather(1, last[:, None])[:, 0], middle.gather(1, last[:, None] + 1)[:, 0]
        fraction = ((self.target - below) / (above - below).clamp_min(1e-6)).clamp(0.0, 1.0)
        exposure = (last + fraction) * (_MAX_LAMBDA / (_CANDIDATES - 1))
        exposure = torch.where(middle[:, 0] >= self.target, torch.zeros_like(exposure), exposure)

        # Chroma within a code or two of neutral everywhere is an infrared or monochrome camera: keep it neutral.
        saturation = ((condition.features["spread"] * 255.0 - 1.0) / 1.5).clamp(0.0, 1.0)
        # Haze is taken out as far as the picture is lifted at all: daylight stays as it is.
        lifted = exposure.clamp_max(1.0)
        return Prior(
            torch.stack(
                [exposure, black[:, 0] * lifted, torch.lerp(torch.ones_like(lifted), saturation, lifted)], dim=1
            )
        )

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """Tone-map ``condition.low`` with the latent; strength scales the exposure, 0 gives ``low`` back."""
        if strength == 0.0:
            return condition.low
        exposure, black, saturation = (value[:, None, None, None] for value in latent.unbind(1))
        exposure, black = exposure * strength, black * strength
        luma, chroma = condition.features["luma"], condition.low[:, 1:]
        span = 1.0 / (1.0 - black)
        out = torch.empty_like(condition.low)
        bright, color = out[:, :1], out[:, 1:]

        # In place where it can be: on a CPU these planes just fit the cache, and temporaries cost more than arithmetic.
        value = (luma - black).mul_(span).clamp_min_(0.0)
        light = (condition.features["light"] - black).mul_(span).clamp_min_(_FLOOR)
        # What is bright itself is not lifted by dark surroundings: lamps and headlights keep their size.
        light = torch.maximum(light, value.add(_OWN_LIGHT).clamp_max_(1.0).mul_(value))
        torch.mul(_curve(light, exposure), value, out=bright)
        # Nothing gets darker than it was: a lamp at the end of the scale stays white.
        torch.maximum(_shoulder(bright.div_(light)), value, out=bright)

        gain = bright.div(value.add_(0.015)).clamp_min_(1.0)
        # A chroma offset of a code or two is the encoder's, not the scene's; the gain would make it a coloured sheet.
        doubt = luma.mul(-2.0 / _NEAR_BLACK).add_(2.0).clamp_min_(0.0)
        doubt.add_(gain.sub(1.0).mul_(0.25).clamp_max_(1.0)).mul_(_CHROMA_DOUBT * strength)
        energy = chroma[:, :1].square().addcmul_(chroma[:, 1:], chroma[:, 1:])
        trust = energy.div(doubt.square_().add_(energy).add_(1e-12))
        torch.mul(chroma, gain.mul_(saturation).sub_(1.0).mul_(strength).add_(1.0).mul_(trust), out=color)
        # YCbCr leaves room for colour only away from white; without this lamps turn into flat coloured discs.
        room = bright.neg().add_(1.0).clamp_(0.02, 0.5)
        color.mul_(color.div(room).square_().add_(1.0).rsqrt_())
        return out

    def _illumination(self, luma: Tensor, coarse: Tensor) -> Tensor:
        """Illumination in linear units: edge-aware base layer and the pixel itself, mixed in the log domain."""
        log_luma = (luma + _FLOOR).log()
        if self.locality == 0.0:
            return luma
        guide = (coarse + _FLOOR).log()
        radius = max(1, min(guide.shape[-2:]) // 12)
        mean, square = _box(torch.cat([guide, guide * guide], 1), radius).split(1, 1)
        variance = (square - mean * mean).clamp_min(0.0)
        a = variance / (variance + 0.25)
        maps = torch.cat([a, mean - a * mean], 1)
        maps = F.interpolate(_box(maps, radius), size=luma.shape[-2:], mode="bilinear")
        base = torch.addcmul(maps[:, 1:], maps[:, :1], log_luma)
        return torch.lerp(log_luma, base, self.locality).exp_() - _FLOOR


_FLOOR: Final = 0.004
_OWN_LIGHT: Final = 0.6
_CHROMA_DOUBT: Final = 1.5 / 224.0
_NEAR_BLACK: Final = 14.0 / 255.0


def _curve(value: Tensor, exposure: Tensor) -> Tensor:
    """``log(1 + (e^λ - 1)·v) / λ``: 0 → 0, 1 → 1, slope ``(e^λ - 1) / λ`` at 0, identity for λ → 0."""
    exposure = exposure.clamp_min(1e-3)
    return torch.log1p(torch.expm1(exposure) * value) / exposure


def _shoulder(value: Tensor) -> Tensor:
    """Identity up to 0.85, then approaching 1 smoothly."""
    knee = 0.85
    over = (value - knee).clamp_min_(0.0)
    return (value - over).sub_(over.mul_(-1.0 / (1.0 - knee)).expm1_().mul_(1.0 - knee))


def _shrink(image: Tensor) -> Tensor:
    """Area-average to a quarter of the size, where there is enough of it."""
    factor = max(1, min(4, min(image.shape[-2:]) // 16))
    return F.avg_pool2d(image, factor, ceil_mode=True, count_include_pad=False) if factor > 1 else image


def _box(image: Tensor, radius: int) -> Tensor:
    """Mean over a (2r+1)² window with replicated borders, by running sums."""
    side = 2 * radius + 1
    padded = F.pad(image, (radius + 1, radius, radius + 1, radius), mode="replicate")
    sums = padded.cumsum(-1)
    sums = (sums[..., side:] - sums[..., :-side]).cumsum(-2)
    return (sums[..., side:, :] - sums[..., :-side, :]).mul_(1.0 / (side * side))
