"""A dark camera in front of a bright picture: pairs of what it records and what it should have shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from streamlight.training.degradation.coding import is_video, store
from streamlight.training.degradation.light import glow_light, glow_threshold, lamp_light, light_map
from streamlight.training.degradation.noise import add_noise
from streamlight.training.degradation.optics import gaussian_blur
from streamlight.training.degradation.parameters import DegradationParameters
from streamlight.training.degradation.tone import decode, encode, radiance_scale, shoulder, target_exponent


class Pair(NamedTuple):
    """A dark picture or clip and its target: ``(3, H, W)`` or ``(T, 3, H, W)`` float32 RGB, [0, 1]."""

    low: Tensor
    target: Tensor


@dataclass(frozen=True, slots=True)
class Scene:
    """What holds for all frames of one clip, measured on its first.

    Attributes:
        exponent: Of the encoded values, for the brightness of the target.
        scale: Of a radiance map.
        threshold: Luma above which the picture shines; None if nothing does.
    """

    exponent: float
    scale: float
    threshold: float | None


class DarkCamera:
    """Records one clip, frame by frame; light, lamps and exposure stay, noise is drawn anew for every frame.

    Storing (8 bit, chroma, codecs) is not part of it: see `store`, or write the frames with a real encoder.

    Args:
        parameters: What is done.
        first: ``(3, H, W)`` float: the first frame, or the still. Encoded RGB in [0, 1]; with ``radiance`` linear
            light >= 0 of any scale.
        radiance: Whether frames are scene-linear radiance instead of photographs.

    Raises:
        ValueError: The frame has another shape.
    """

    def __init__(self, parameters: DegradationParameters, first: Tensor, *, radiance: bool = False) -> None:
        self.parameters = parameters
        self._radiance = radiance
        self._size = _checked(first).shape[-2:]
        height, width = self._size
        p = parameters
        self._light = None if p.light is None else light_map(p.light, height, width)
        self._lamps = lamp_light(p.lamps, height, width) if p.lamps else None
        exponent = scale = 1.0
        if radiance:
            scale = radiance_scale(first, key=p.key, curve=p.curve)
        elif p.pull:
            exponent = target_exponent(first, brightness=p.brightness, pull=p.pull)
        self.scene = Scene(exponent, scale, None)
        if p.glow is not None:
            self.scene = Scene(exponent, scale, glow_threshold(self._linear(first), p.glow))

    def record(self, frame: Tensor, *, generator: torch.Generator) -> Pair:
        """The next frame, dark and bright; neither is rounded.

        Args:
            frame: Of the first frame's shape and kind.
            generator: On the CPU, for the noise.

        Raises:
            ValueError: The frame has another shape than the first.
        """
        dark, target = self.expose(frame)
        return Pair(self.develop(dark, generator=generator), target)

    def expose(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """The light that reaches the lens, and the target; the part of :meth:`record` that nothing random is in.

        Args:
            frame: Of the first frame's shape and kind.

        Returns:
            Linear light >= 0 and encoded target in [0, 1], ``(3, H, W)`` each.

        Raises:
            ValueError: The frame has another shape than the first.
        """
        if _checked(frame).shape[-2:] != self._size:
            raise ValueError(f"all frames must be {tuple(self._size)} like the first, got {tuple(frame.shape[-2:])}")
        p, linear = self.parameters, self._linear(frame)
        dark = bright = linear
        if p.light is not None and self._light is not None:
            dark, bright = linear * self._light, linear * self._light**p.light.keep
        dark = dark * (p.exposure * torch.tensor(p.illuminant)[:, None, None])
        sources = self._sources(linear)
        if sources is not None:
            dark, bright = dark + sources, bright + sources
        return dark, encode(shoulder(bright) if self._radiance else bright, p.curve)

    def develop(self, dark: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """What lens, sensor and tone curve make of the light; not rounded.

        Args:
            dark: Linear light from :meth:`expose`.
            generator: On the CPU, for the noise; without, lens and sensor are ideal: no blur, no noise.

        Returns:
            ``(3, H, W)`` encoded, [0, 1].
        """
        p = self.parameters
        if generator is None:
            dark = dark + p.black
        else:
            dark = add_noise(gaussian_blur(dark, p.blur) + p.black, p.noise, generator=generator)
        low = encode(dark, p.low_curve)
        return p.pedestal + (1.0 - p.pedestal) * low if p.pedestal else low

    def _linear(self, frame: Tensor) -> Tensor:
        if self._radiance:
            return frame.float().clamp_min(0.0) * self.scene.scale
        encoded = frame.float().clamp(0.0, 1.0)
        return decode(encoded if self.scene.exponent == 1.0 else encoded**self.scene.exponent, self.parameters.curve)

    def _sources(self, linear: Tensor) -> Tensor | None:
        """Light that the exposure does not dim: lamps, and what shines in the picture itself."""
        glow, threshold = self.parameters.glow, self.scene.threshold
        if glow is None or threshold is None:
            return self._lamps
        light = glow_light(linear, glow, threshold)
        return light if self._lamps is None else light + self._lamps


def degrade_image(
    image: Tensor, parameters: DegradationParameters, *, generator: torch.Generator, radiance: bool = False
) -> Pair:
    """Degrade a still.

    Args:
        image: ``(3, H, W)`` float RGB: encoded in [0, 1], or linear radiance >= 0.
        parameters: What is done.
        generator: On the CPU, for the noise. The same state gives the same pair.
        radiance: Whether the image is scene-linear radiance.

    Returns:
        Dark picture (8-bit values) and target.

    Raises:
        ValueError: The image has another shape, or holds NaN.
        MediaError: The encoder failed.
    """
    return degrade_still(image, parameters, generator=generator, radiance=radiance)[0]


def degrade_still(
    image: Tensor, parameters: DegradationParameters, *, generator: torch.Generator, radiance: bool = False
) -> tuple[Pair, Tensor]:
    """As `degrade_image`, with the dark picture that a camera without noise, lens blur and storage would give.

    Returns:
        The pair, and that picture: ``(3, H, W)`` float32 RGB in [0, 1], not rounded, because in the dark 1/255 is much.
    """
    camera = DarkCamera(parameters, image, radiance=radiance)
    dark, target = camera.expose(image)
    shots = parameters.coding.burst if is_video(parameters.coding) else 1
    lows = torch.stack([camera.develop(dark, generator=generator) for _ in range(shots)])
    return Pair(store(lows, parameters.coding)[-1], target), camera.develop(dark, generator=None)


def degrade_clip(
    frames: Tensor | Iterable[Tensor],
    parameters: DegradationParameters,
    *,
    generator: torch.Generator,
    radiance: bool = False,
) -> Pair:
    """Degrade a clip that fits into memory.

    Args:
        frames: ``(T, 3, H, W)`` float RGB in [0, 1] (or radiance), T >= 1, or the frames one by one.
        parameters: What is done.
        generator: On the CPU. Noise is independent from frame to frame.
        radiance: Whether the frames are scene-linear radiance.

    Returns:
        Dark clip and target, ``(T, 3, H, W)`` each.

    Raises:
        ValueError: No frames, or frames of another shape.
        MediaError: The encoder failed.
    """
    pairs: list[Pair] = []
    camera: DarkCamera | None = None
    for frame in frames:
        camera = camera or DarkCamera(parameters, frame, radiance=radiance)
        pairs.append(camera.record(frame, generator=generator))
    if not pairs:
        raise ValueError("a clip needs at least one frame")
    stored = store(torch.stack([pair.low for pair in pairs]), parameters.coding)
    return Pair(stored, torch.stack([pair.target for pair in pairs]))


def _checked(frame: Tensor) -> Tensor:
    if frame.ndim != 3 or frame.shape[0] != 3 or 0 in frame.shape:
        raise ValueError(f"expected a picture of shape (3, H, W), got {tuple(frame.shape)}")
    if not frame.is_floating_point():
        raise ValueError(f"expected floating-point values, got {frame.dtype}; divide 8-bit values by 255")
    if not bool(torch.isfinite(frame).all()):
        raise ValueError("the picture holds NaN or infinite values")
    return frame
