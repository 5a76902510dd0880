"""Drawing degradation parameters: how likely what is, and how strong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from streamlight.training.degradation.parameters import (
    Codec,
    Coding,
    DegradationParameters,
    Glow,
    Lamp,
    LightPool,
    Sensor,
    SensorNoise,
    Share,
    ToneCurve,
    UnevenLight,
)

Kind = Literal["still", "clip"]
Range = tuple[float, float]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
class SensorRange:
    """What a kind of camera can be like in the dark; see `SensorNoise` for the units.

    Shot and read noise rise together with the amplification, so both follow one draw, the read noise with some freedom.
    """

    shot: Range
    read: Range
    shared: Range
    correlation: Range
    row: Range = (0.0, 0.0)
    blotch: float = 0.3


SENSORS: dict[Sensor, SensorRange] = {
    "camera": SensorRange(shot=(1e-5, 4e-4), read=(1e-4, 8e-4), shared=(0.0, 0.2), correlation=(0.0, 0.6), blotch=0.15),
    "phone": SensorRange(shot=(4e-5, 1.2e-3), read=(2e-4, 1.6e-3), shared=(0.0, 0.5), correlation=(0.3, 1.2)),
    "dashcam": SensorRange(
        shot=(8e-5, 2e-3), read=(3e-4, 2.2e-3), shared=(0.1, 0.6), correlation=(0.5, 1.5), row=(0.0, 0.25)
    ),
    "surveillance": SensorRange(
        shot=(8e-5, 2e-3), read=(3e-4, 2.5e-3), shared=(0.2, 0.6), correlation=(0.8, 2.0), row=(0.0, 0.4), blotch=0.45
    ),
}
"""Ranges per kind of camera; ``row`` is in units of the read noise, ``blotch`` is the chance of colour blotches."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class DegradationRanges:
    """Chances and ranges of the draw; the defaults are those of the real-time prototype, widened by sensors and codecs.

    Attributes:
        identity: Chance of leaving exposure, light and colour as they are, which teaches to leave day alone.
        exposure: Range of the exposure, log-uniform.
        typical_exposure, typical: Narrower range that this share of the pictures is drawn from.
        pull: How far the target is pulled towards a mean luma of 0.36 to 0.55.
        key: Mean luma of the target of radiance maps.
        uneven: Chance of uneven light; a third of it are scenes with unlit regions.
        lamps: Chance of light sources.
        illuminant: Standard deviation of the log gains of R and B.
        blur: Chance of lens and scaler blur.
        pedestal: Chance of a raised black level.
        same_curve: Chance that the dark picture has the tone curve of the target.
        noise: Factor of all noise: below 1 for material that was scaled down.
        quiet: Chance of a picture with a twentieth to a half of that noise, which teaches to leave detail alone.
        sensors: Kinds of camera, equally likely.
        stills: Chances of the codecs for stills; they need not add up to 1.
        clips: Chances of the codecs for clips; JPEG cannot hold one.
        subsampled: Chance of 4:2:0 in limited range where no codec does it.
        jpeg_quality, crf: Ranges of the quality.
    """

    identity: Share = 0.08
    exposure: Range = (1 / 100, 1 / 1.5)
    typical_exposure: Range = (1 / 60, 1 / 8)
    typical: Share = 1 / 3
    pull: Share = 0.7
    key: Range = (0.36, 0.52)
    uneven: Share = 0.45
    lamps: Share = 0.3
    illuminant: Annotated[float, Field(ge=0, le=1)] = 0.1
    blur: Share = 0.25
    pedestal: Share = 0.3
    same_curve: Share = 0.65
    noise: Annotated[float, Field(ge=0, le=10)] = 1.0
    quiet: Share = 0.0
    sensors: tuple[Literal["camera", "phone", "dashcam", "surveillance"], ...] = (
        "camera",
        "phone",
        "dashcam",
        "surveillance",
    )
    stills: tuple[tuple[Codec, float], ...] = (("none", 0.35), ("jpeg", 0.35), ("h264", 0.22), ("hevc", 0.08))
    clips: tuple[tuple[Literal["none", "h264", "hevc"], float], ...] = (("none", 0.2), ("h264", 0.6), ("hevc", 0.2))
    subsampled: Share = 0.5
    jpeg_quality: tuple[int, int] = (20, 98)
    crf: tuple[int, int] = (16, 38)

    @model_validator(mode="after")
    def _check(self) -> DegradationRanges:
        limits = {
            "exposure": (1e-6, 1.0),
            "typical_exposure": (1e-6, 1.0),
            "key": (0.03, 0.89),
            "jpeg_quality": (1, 100),
            "crf": (0, 51),
        }
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} must be a range from low to high within {least:g} to {most:g}")
        for name in ("stills", "clips"):
            weights = [weight for _, weight in getattr(self, name)]
            if not weights or min(weights) < 0 or sum(weights) <= 0:
                raise ValueError(f"{name} needs codecs with chances of which one is above 0 and none below")
        if not self.sensors:
            raise ValueError("sensors must name at least one kind of camera")
        return self


def sample_parameters(
    generator: torch.Generator,
    *,
    ranges: DegradationRanges | None = None,
    kind: Kind = "still",
    exposure: float | None = None,
) -> DegradationParameters:
    """Draw the degradation of one picture or clip.

    Args:
        generator: On the CPU. The same state gives the same parameters.
        ranges: What is drawn from.
        kind: Clips are stored by a video codec.
        exposure: Instead of drawing it; 1 is the identity case.

    Raises:
        pydantic.ValidationError: The exposure is not above 0 and up to 1.
    """
    ranges = ranges or DegradationRanges()
    draw = Draw(generator)
    # Draw everything, also what goes unused: a fixed exposure then leaves the other draws of a seed as they are.
    identity, drawn = draw.chance(ranges.identity), _exposure(draw, ranges)
    exposure = exposure if exposure is not None else 1.0 if identity else drawn
    identity = exposure == 1.0
    curve, other = _curve(draw), _curve(draw)
    low_curve = curve if draw.chance(ranges.same_curve) or identity else other
    light, lamps, glow = _light(draw, ranges), *_sources(draw, ranges)
    red, blue = (math.exp(draw.normal() * ranges.illuminant) for _ in range(2))
    blur = draw.uniform(0.4, 0.9) if draw.chance(ranges.blur) else 0.0
    black, pedestal = draw.uniform(-0.0012, 0.002), draw.uniform(0.0, 0.012)
    raised = draw.chance(ranges.pedestal)
    # By day the same sensor is not amplified.
    scale = ranges.noise * (0.1 if identity else 1.0)
    if ranges.quiet and draw.chance(ranges.quiet):
        scale *= draw.log_uniform(0.05, 0.5)
    noise = sample_noise(draw, sensors=ranges.sensors, scale=scale)
    return DegradationParameters(
        exposure=exposure,
        pull=ranges.pull,
        key=draw.uniform(*ranges.key),
        curve=curve,
        low_curve=low_curve,
        light=None if identity else light,
        lamps=() if identity else lamps,
        glow=None if identity else glow,
        illuminant=(1.0, 1.0, 1.0) if identity else (red, 1.0, blue),
        blur=blur,
        black=0.0 if identity else black,
        noise=noise,
        pedestal=pedestal if raised and not identity else 0.0,
        coding=sample_coding(draw, ranges, kind=kind),
    )


class Draw:
    """Random numbers from one `torch.Generator`."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, low: float, high: float) -> float:
        """Between low and high."""
        # In double precision, or equal bounds would come out a little apart.
        return low + (high - low) * torch.rand((), generator=self._generator, dtype=torch.float64).item()

    def log_uniform(self, low: float, high: float) -> float:
        """Between low and high, both positive, with every octave equally likely."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self) -> float:
        """Standard normal."""
        return torch.randn((), generator=self._generator, dtype=torch.float64).item()

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.uniform(0.0, 1.0) < probability

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(torch.randint(low, high + 1, (), generator=self._generator).item())

    def choice(self, weighted: Sequence[tuple[Any, float]]) -> Any:
        """One of the things, with chances in proportion to the weights."""
        point = self.uniform(0.0, sum(weight for _, weight in weighted))
        for thing, weight in weighted:
            point -= weight
            if point < 0:
                return thing
        return weighted[-1][0]


def sample_noise(draw: Draw, *, sensors: Sequence[Sensor], scale: float = 1.0) -> SensorNoise:
    """A sensor at a random amplification.

    Args:
        draw: Source of random numbers.
        sensors: Kinds of camera, keys of `SENSORS`.
        scale: Factor of the standard deviations.
    """
    name = draw.choice([(sensor, 1.0) for sensor in sensors])
    sensor = SENSORS[name]
    amplification = draw.uniform(0.0, 1.0)
    loose = 0.7 * amplification + 0.3 * draw.uniform(0.0, 1.0)
    shot = sensor.shot[0] * (sensor.shot[1] / sensor.shot[0]) ** amplification * scale**2
    read = sensor.read[0] * (sensor.read[1] / sensor.read[0]) ** loose * scale
    blotched, blotch = draw.chance(sensor.blotch), draw.uniform(0.15, 0.6)
    return SensorNoise(
        sensor=name,
        shot=shot,
        read=read,
        row=draw.uniform(*sensor.row) * read,
        shared=draw.uniform(*sensor.shared),
        correlation=draw.uniform(*sensor.correlation),
        gains=(draw.uniform(1.0, 1.8), 1.0, draw.uniform(1.0, 2.0)),
        blotch=blotch if blotched else 0.0,
        blotch_size=draw.whole(6, 32),
    )


def sample_coding(draw: Draw, ranges: DegradationRanges, *, kind: Kind) -> Coding:
    """How the dark picture is stored."""
    codec = draw.choice(ranges.stills if kind == "still" else ranges.clips)
    jpeg, crf = draw.whole(*ranges.jpeg_quality), draw.whole(*ranges.crf)
    subsampled, matrix = draw.chance(ranges.subsampled), draw.choice([("bt709", 0.6), ("smpte170m", 0.4)])
    burst = draw.whole(1, 3)
    return Coding(
        codec=codec,
        quality=None if codec == "none" else jpeg if codec == "jpeg" else crf,
        preset=draw.choice([("superfast", 1.0), ("veryfast", 1.0)]),
        subsampled=subsampled,
        matrix=matrix,
        burst=burst if codec in ("h264", "hevc") and kind == "still" else 1,
    )


def _exposure(draw: Draw, ranges: DegradationRanges) -> float:
    wide, typical = draw.log_uniform(*ranges.exposure), draw.log_uniform(*ranges.typical_exposure)
    return min(1.0, typical if draw.chance(ranges.typical) else wide)


def _curve(draw: Draw) -> ToneCurve:
    return ToneCurve(gamma=draw.uniform(1.9, 2.4), contrast=draw.uniform(0.0, 0.6))


def _light(draw: Draw, ranges: DegradationRanges) -> UnevenLight | None:
    uneven, unlit = draw.chance(ranges.uneven), draw.chance(1 / 3)
    # Where hardly any light is left outside the pools, one of them must be in view or there is nothing to learn.
    low, high = (0.1, 0.9) if unlit else (-0.1, 1.1)
    pools = tuple(
        LightPool(
            x=draw.uniform(low, high),
            y=draw.uniform(low, high),
            radius=draw.uniform(0.08, 0.22) if unlit else draw.uniform(0.12, 0.5),
            strength=draw.uniform(0.5, 1.0),
        )
        for _ in range(draw.whole(1, 3))
    )
    ambient = draw.log_uniform(0.0015, 0.03) if unlit else draw.uniform(0.05, 0.6)
    keep = draw.uniform(0.3, 0.55) if unlit else draw.uniform(0.0, 0.35)
    return UnevenLight(pools=pools, ambient=ambient, keep=keep) if uneven else None


def _sources(draw: Draw, ranges: DegradationRanges) -> tuple[tuple[Lamp, ...], Glow | None]:
    lit = draw.chance(ranges.lamps)
    lamps = tuple(_lamp(draw) for _ in range(draw.whole(0, 4)))
    glow = Glow(
        share=draw.log_uniform(0.003, 0.03),
        level=draw.log_uniform(0.3, 4.0),
        halo=draw.uniform(0.0, 0.15),
        halo_radius=draw.uniform(0.01, 0.04),
    )
    glows = draw.chance(0.7) or not lamps
    return (lamps if lit else (), glow if lit and glows else None)


def _lamp(draw: Draw) -> Lamp:
    warmth = draw.uniform(0.0, 1.0)
    return Lamp(
        x=draw.uniform(0.0, 1.0),
        y=draw.uniform(0.0, 0.8),
        radius=draw.log_uniform(0.004, 0.035),
        level=draw.log_uniform(0.3, 4.0),
        halo=draw.log_uniform(0.003, 0.1),
        halo_radius=draw.log_uniform(0.02, 0.15),
        tint=(1.0, 1.0 - 0.3 * warmth, 1.0 - 0.6 * warmth),
    )
