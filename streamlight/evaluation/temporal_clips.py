"""Short dark clips with their clean frames, held in memory: what ``streamlight bench temporal`` measures on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch

from streamlight.enhance.color import planes_from_rgb, rgb_from_planes
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.darkened import CLIPS, parameters_of
from streamlight.evaluation.making import generator
from streamlight.evaluation.stability_meter import Motion, StabilityMeter
from streamlight.evaluation.stability_report import StabilityReport
from streamlight.evaluation.truth import PLACES, Place, frame_of, night_scene
from streamlight.media import Frame, open_source
from streamlight.training.degradation import DarkCamera

VERSION: Final = "temporal-1"
LEAST_FRAMES: Final = 8
LEAST_SIZE: Final = 48


@dataclass(frozen=True, slots=True)
class PairedClip:
    """A dark clip, what it shows, and how that moves.

    Attributes:
        name: For tables.
        dark: Frames, 8 bit, 4:2:0, neither coded nor stored.
        clean: The same frames as they should look.
        motion: Exact motion from the frame before and what of it can be followed; None for all frames of a clip whose
            motion is not known, and is estimated in the clean frames.
        cut: First frame of the second shot; None without one.
    """

    name: str
    dark: tuple[Frame, ...]
    clean: tuple[Frame, ...]
    motion: tuple[Motion | None, ...]
    cut: int | None = None

    @property
    def size(self) -> str:
        """``"192x108"``."""
        return f"{self.dark[0].width}x{self.dark[0].height}"

    def judge(self, enhanced: list[Frame]) -> StabilityReport:
        """How steady, and how near to the clean frames, what was made of the dark ones is."""
        meter = StabilityMeter(("enhanced", "source", "reference"))
        for result, dark, clean, motion in zip(enhanced, self.dark, self.clean, self.motion, strict=True):
            meter.add({"enhanced": result, "source": dark, "reference": clean}, motion=motion)
        return meter.report({"enhanced": "enhanced", "source": self.name, "reference": self.name})


def clips_to_measure(data: str | Path | None, *, frames: int, long_side: int) -> list[PairedClip]:
    """The two drawn scenes, and the darkened clips where there is data.

    Args:
        data: Folder with ``video``; None for the drawn scenes alone.
        frames: Of each, at least 8.
        long_side: Pixels, even, at least 48.

    Raises:
        ConfigError: A number is out of range.
        MediaError: A clip is missing, cannot be read or is shorter.
    """
    if frames < LEAST_FRAMES or long_side < LEAST_SIZE or long_side % 2:
        raise ConfigError(
            f"at least {LEAST_FRAMES} frames and an even size of at least {LEAST_SIZE} pixels are needed, "
            f"got {frames} and {long_side}"
        )
    clips = [drawn_clip(place, frames=frames, width=long_side, height=_even(long_side * 9 / 16)) for place in PLACES]
    for name, camera in CLIPS.items() if data is not None else ():
        clips.append(darkened_clip(Path(data or "", name), camera=camera, frames=frames, long_side=long_side))
    return clips


def drawn_clip(place: Place, *, frames: int, width: int, height: int, cut: int | None = None) -> PairedClip:
    """A scene of known truth, as :func:`streamlight.evaluation.truth.night_scene` makes it.

    Args:
        place: Which.
        frames: How many.
        width: Even.
        height: Even.
        cut: First frame of the second shot; None for the middle.
    """
    made = list(night_scene(place, frames=frames, width=width, height=height, cut=cut))
    return PairedClip(
        f"{place}, drawn",
        tuple(frame_of(frame, "dark") for frame in made),
        tuple(frame_of(frame, "clean") for frame in made),
        (None, *((frame.motion, frame.visible) for frame in made[:-1])),
        next((frame.index for frame in made if frame.cut), None),
    )


def darkened_clip(path: Path, *, camera: str, frames: int, long_side: int) -> PairedClip:
    """The first frames of a clean clip, reduced, then darkened as :mod:`streamlight.evaluation.darkened` does.

    Args:
        path: The clip; 8 bits.
        camera: Key of :data:`streamlight.evaluation.darkened.CAMERAS`.
        frames: How many.
        long_side: Pixels.

    Raises:
        MediaError: The clip is missing, cannot be read, is not of 8 bits or shorter than that.
    """
    if not path.is_file():
        raise MediaError(f"{path}: is missing; it is one of the clips that are darkened to measure on")
    with open_source(path, threads=1) as source:
        clean = [_reduced(frame, long_side) for frame in islice(source.frames(), frames)]
    if len(clean) < frames:
        raise MediaError(f"{path}: has {len(clean)} frames, {frames} are needed")
    if clean[0].color.bit_depth != 8:
        raise MediaError(f"{path}: has {clean[0].color.bit_depth} bits a sample, clips to darken have 8")
    noise = generator(VERSION, path.name)
    recorder = DarkCamera(parameters_of(camera), rgb_from_planes(clean[0].planes, clean[0].color))
    dark = []
    for frame in clean:
        low = recorder.record(rgb_from_planes(frame.planes, frame.color), generator=noise).low
        dark.append(replace(frame, planes=planes_from_rgb(low, frame.color)))
    return PairedClip(f"{path.stem}, darkened", tuple(dark), tuple(clean), (None,) * frames)


def _reduced(frame: Frame, long_side: int) -> Frame:
    scale = long_side / max(frame.width, frame.height)
    size = _even(frame.width * scale), _even(frame.height * scale)
    rgb = rgb_from_planes(frame.planes, frame.color).permute(1, 2, 0).contiguous().numpy()
    small = np.ascontiguousarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).transpose(2, 0, 1))
    return replace(frame, planes=planes_from_rgb(torch.from_numpy(small), frame.color), origin=None)


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))
