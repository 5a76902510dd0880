"""Clean clips made dark, so that what an enhancer makes of them can be compared with what was there.

Definition. The first 150 frames of a clip, at its own size and rate, with 1/25 of the light, the same tone curve
both ways (:data:`CURVE`) and no other change but the noise of its kind of camera (:data:`CAMERAS`): shot noise, read
noise, spread a little by demosaicking, drawn anew for every frame. They are stored as 8-bit 4:2:0 with the clip's own
colour description, once without loss ("raw") and once by x264 (CRF 20, ``veryfast``, one thread: the same bits on
every machine). The luma of the clean clip as it was decoded is the reference. Noise comes from the generator
``SHA-256("darkened-1/" + name of the file)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from streamlight.enhance.color import planes_from_rgb, rgb_from_planes
from streamlight.errors import MediaError
from streamlight.evaluation.making import digest, generator, made
from streamlight.media import EncodeSettings, Frame, open_source
from streamlight.media.clips import write_clip
from streamlight.models.record import file_digest
from streamlight.training.degradation import DarkCamera, DegradationParameters, SensorNoise, ToneCurve

VERSION: Final = "darkened-1"
EXPOSURE: Final = 1 / 25
FRAMES: Final = 150

CURVE: Final = ToneCurve(gamma=2.2, contrast=0.3)
"""A camera's, with some contrast: under a plain power law the dark picture would be the bright one times a number."""

CAMERAS: Final[dict[str, SensorNoise]] = {
    "surveillance": SensorNoise(
        sensor="surveillance", shot=3e-4, read=6e-4, shared=0.3, correlation=0.8, gains=(1.4, 1.0, 1.5)
    ),
    "dashcam": SensorNoise(sensor="dashcam", shot=3e-4, read=6e-4, shared=0.3, correlation=0.6, gains=(1.4, 1.0, 1.5)),
}
"""Noise in linear light with 1 = white: variance ``gain · shot · light + (gain · read)²``, the strength in the middle
of what training draws."""

CLIPS: Final = {"video/opencv_vtest.avi": "surveillance", "video/udacity_solidWhiteRight.mp4": "dashcam"}
"""Clean clips below the folder of the data that are kept out of training, and the camera each is given."""

CODINGS: Final[dict[str, EncodeSettings]] = {
    "x264 crf 20": EncodeSettings(codec="h264", quality=20, preset="veryfast", threads=1),
    "raw": EncodeSettings(codec="ffv1"),
}


@dataclass(frozen=True, slots=True)
class DarkClip:
    """A dark clip and what it shows.

    Attributes:
        name: Of the clean clip, and the coding.
        path: The dark clip.
        reference: Luma planes of the clean frames, codes as decoded.
    """

    name: str
    path: Path
    reference: list[np.ndarray]


def parameters_of(camera: str, *, exposure: float = EXPOSURE) -> DegradationParameters:
    """What is done to a clip, storing aside."""
    return DegradationParameters(exposure=exposure, curve=CURVE, low_curve=CURVE, noise=CAMERAS[camera])


@contextmanager
def darkened(
    clean: str | Path,
    *,
    camera: str,
    frames: int = FRAMES,
    cache: str | Path | None = None,
    exposure: float = EXPOSURE,
    codings: Sequence[str] = tuple(CODINGS),
) -> Iterator[list[DarkClip]]:
    """The dark versions of a clip, one per coding; the files are there until the block ends.

    Args:
        clean: The clip.
        camera: Key of :data:`CAMERAS`.
        frames: Taken from the start.
        cache: Folder to keep the files in; a later call takes them from there.
        exposure: Share of the light that is left.
        codings: Keys of :data:`CODINGS`.

    Raises:
        MediaError: The clip is missing, cannot be read, is not of 8 bits or shorter than that, or the cache cannot be
            written.
    """
    clean = Path(clean)
    if not clean.is_file():
        raise MediaError(f"{clean}: is missing; it is one of the clips that are darkened to measure on")
    parameters = parameters_of(camera, exposure=exposure)

    def make(folder: Path) -> None:
        for coding in codings:
            _write(clean, folder / _file(coding), parameters, frames=frames, coding=coding)

    key = digest(VERSION, parameters.to_json(), frames, clean.name, file_digest(clean), list(codings))
    with made(f"darkened-{clean.stem}", key, make, cache=cache) as folder:
        reference = [frame.planes[0] for frame in _frames(clean, frames)]
        yield [DarkClip(f"{clean.stem}, {coding}", folder / _file(coding), reference) for coding in codings]


def _file(coding: str) -> str:
    return f"{coding.replace(' ', '-')}.mkv"


def _write(clean: Path, path: Path, parameters: DegradationParameters, *, frames: int, coding: str) -> None:
    with open_source(clean) as source:
        rate = source.info.average_rate or Fraction(25)
    write_clip(path, _darkened(clean, parameters, frames), settings=CODINGS[coding], rate=rate)


def _darkened(clean: Path, parameters: DegradationParameters, frames: int) -> Iterator[Frame]:
    noise = generator(VERSION, clean.name)
    camera: DarkCamera | None = None
    for frame in _frames(clean, frames):
        rgb = rgb_from_planes(frame.planes, frame.color)
        camera = camera or DarkCamera(parameters, rgb)
        low = camera.record(rgb, generator=noise).low
        yield replace(frame, planes=planes_from_rgb(low, frame.color), origin=None)


def _frames(clean: Path, count: int) -> list[Frame]:
    with open_source(clean, threads=1) as source:
        found = [replace(frame, origin=None) for frame in islice(source.frames(), count)]
    if len(found) < count:
        raise MediaError(f"{clean}: has {len(found)} frames, {count} are needed")
    if found[0].color.bit_depth != 8:
        raise MediaError(f"{clean}: has {found[0].color.bit_depth} bits a sample, clips to darken have 8")
    return found
