"""Night scenes whose truth is known: clean frames, light, motion and occlusion, and what a dark camera makes of them.

Two places, drawn from a seed: a *yard* that a camera on a wall watches (people, a passing car, a lamp that goes on and
off) and a *drive* through a street at night (lamps, one of them broken, lit windows, a car that brakes, oncoming
headlights). The camera moves in both; in the middle the view cuts to another place. Motion is exact, from the geometry;
noise is that of :class:`~streamlight.training.degradation.DarkCamera`. Frames are made one by one, any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from streamlight.enhance.color import planes_from_rgb
from streamlight.errors import ConfigError
from streamlight.evaluation import darkened, truth_views
from streamlight.evaluation.making import generator
from streamlight.evaluation.truth_render import Drawn, draw, exact_motion
from streamlight.evaluation.truth_world import Setting
from streamlight.media import ColorSpec, EncodeSettings, Frame
from streamlight.media.clips import write_clip
from streamlight.training.degradation import DarkCamera, DegradationParameters

Place = Literal["yard", "drive"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)
RATE: Final = Fraction(25)

_VIEWS: Final = {"yard": truth_views.yard, "drive": truth_views.drive}
_CAMERAS: Final = {"yard": "surveillance", "drive": "dashcam"}
_VERSION: Final = "truth-1"
_COLOR: Final = ColorSpec(primaries="bt709", transfer="bt709", tags=(1, 1, 1, 1))


@dataclass(frozen=True, slots=True)
class TruthFrame:
    """One frame and all that is known about it.

    Attributes:
        index: From 0.
        shot: 0 before the cut, 1 behind it.
        cut: Whether it is the first of a new shot (the first frame of all is not).
        lamp: Whether the lamp that switches is on.
        linear: ``(3, H, W)`` float32 RGB, linear light, 1 = the white of the clean picture; lamps are above it.
        clean: ``(3, H, W)`` float32 RGB, [0, 1], encoded: the picture that an enhancer should make. Not rounded.
        dark: ``(3, H, W)`` float32 RGB, [0, 1], encoded, with noise: what the camera records. Not rounded.
        reflectance: ``(3, H, W)`` float32: what the scene is painted with, whatever light falls on it.
        motion: ``(H, W, 2)`` float32: pixels (x, y) by which what is here moves until the next frame; 0 before a cut.
        visible: ``(H, W)`` bool: whether it is seen there too. False on outlines, where a pixel shows two things, and
            everywhere before a cut.
    """

    index: int
    shot: int
    cut: bool
    lamp: bool
    linear: Tensor
    clean: Tensor
    dark: Tensor
    reflectance: Tensor
    motion: np.ndarray
    visible: np.ndarray


def night_scene(
    place: Place,
    *,
    frames: int,
    width: int = 320,
    height: int = 180,
    seed: int = 1,
    cut: int | None = None,
    still: bool = False,
    parameters: DegradationParameters | None = None,
    rate: Fraction = RATE,
) -> Iterator[TruthFrame]:
    """Make a night scene, frame by frame.

    Args:
        place: ``"yard"`` or ``"drive"``.
        frames: How many.
        width: Pixels.
        height: Pixels.
        seed: Of the place and of the noise. The same seed gives the same frames.
        cut: First frame of the second shot; None for the middle one, ``frames`` or more for no cut.
        still: Whether time stands still: nothing moves or switches, there is no cut, only the noise is drawn anew.
        parameters: What the camera does; None for 1/25 of the light and the noise of
            :data:`streamlight.evaluation.darkened.CAMERAS`. Nothing is stored: see :func:`write_night_scene`.
        rate: Frames a second.

    Yields:
        The frames in order.

    Raises:
        ConfigError: An unknown place, a size below 16 pixels, no frames, a cut at 0 or before.
    """
    _check(place, frames=frames, width=width, height=height, cut=cut)
    cut = frames if still else max(1, frames // 2) if cut is None else cut
    noise = generator(_VERSION, place, str(seed))
    parameters = parameters or darkened.parameters_of(_CAMERAS[place])

    def shot(index: int) -> int:
        return int(index >= cut)

    def drawn(index: int, *, of: int) -> Drawn:
        return draw(_setting(place, index, shot=of, seed=seed, still=still, rate=rate), width=width, height=height)

    now = drawn(0, of=0)
    camera = DarkCamera(parameters, _tensor(now.linear), radiance=True)
    motion, visible = np.zeros((height, width, 2), np.float32), np.ones((height, width), bool)
    for index in range(frames):
        following = now
        if not still:
            following = drawn(index + 1, of=shot(index + 1))
            motion, visible = np.zeros_like(motion), np.zeros_like(visible)
            if shot(index) == shot(index + 1):
                motion, visible = exact_motion(now, following)
        light = _tensor(now.linear)
        pair = camera.record(light, generator=noise)
        yield TruthFrame(
            index=index,
            shot=shot(index),
            cut=index == cut,
            lamp=truth_views.lamp_on(place, 0.0 if still else float(index / rate)),
            linear=light * camera.scene.scale,
            clean=pair.target,
            dark=pair.low,
            reflectance=_tensor(now.reflectance),
            motion=motion.copy(),
            visible=visible.copy(),
        )
        now = following


def write_night_scene(
    path: str | Path,
    place: Place,
    *,
    frames: int,
    picture: Literal["dark", "clean"] = "dark",
    width: int = 320,
    height: int = 180,
    seed: int = 1,
    cut: int | None = None,
    still: bool = False,
    parameters: DegradationParameters | None = None,
    rate: Fraction = RATE,
    settings: EncodeSettings | None = None,
) -> Path:
    """Write a night scene as a clip: 8 bit, 4:2:0, BT.709, limited range.

    Args:
        path: File to write; its suffix chooses the container.
        place: As in :func:`night_scene`, like all that is not named here.
        frames: How many.
        picture: The dark frames or the clean ones; both clips of a pair show the same.
        width: Even.
        height: Even.
        seed: Of place and noise.
        cut: First frame of the second shot.
        still: Whether time stands still.
        parameters: What the camera does.
        rate: Frames a second.
        settings: Encoder; None for x264 at CRF 20 (``veryfast``) of the dark frames and FFV1 (``.mkv``) or lossless
            x264 of the clean ones.

    Raises:
        ConfigError: As in :func:`night_scene`, or an odd size.
        MediaError: The file cannot be written.
    """
    if width % 2 or height % 2:
        raise ConfigError(f"a clip of 4:2:0 needs an even size, got {width}x{height}")
    if settings is None:
        lossless = EncodeSettings(codec="ffv1") if Path(path).suffix == ".mkv" else EncodeSettings(quality=0, threads=1)
        settings = darkened.CODINGS["x264 crf 20"] if picture == "dark" else lossless
    made = night_scene(
        place,
        frames=frames,
        width=width,
        height=height,
        seed=seed,
        cut=cut,
        still=still,
        parameters=parameters,
        rate=rate,
    )
    write_clip(path, (frame_of(frame, picture, rate=rate) for frame in made), settings=settings, rate=rate)
    return Path(path)


def _setting(place: Place, index: int, *, shot: int, seed: int, still: bool, rate: Fraction) -> Setting:
    return _VIEWS[place](0.0 if still else float(index / rate), shot=shot, seed=seed)


def frame_of(frame: TruthFrame, picture: Literal["dark", "clean"], *, rate: Fraction = RATE) -> Frame:
    """One of the pictures as a video frame: 8 bit, 4:2:0, BT.709, limited range.

    Args:
        frame: Of a night scene of even width and height.
        picture: Which.
        rate: Frames a second.
    """
    rgb = frame.dark if picture == "dark" else frame.clean
    planes = planes_from_rgb(rgb, _COLOR)
    return Frame(planes, _COLOR, pts=frame.index, time_base=1 / rate, duration=1, index=frame.index)


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _check(place: str, *, frames: int, width: int, height: int, cut: int | None) -> None:
    if place not in PLACES:
        raise ConfigError(f"unknown place '{place}', expected one of {', '.join(PLACES)}")
    if min(width, height) < 16 or frames < 1 or (cut is not None and cut < 1):
        raise ConfigError(
            f"at least 16x16 pixels, one frame and a cut behind the first are needed, got {width}x{height}, "
            f"{frames} frames and a cut at {cut}"
        )
