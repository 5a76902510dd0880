"""Scenes of known truth: that the truth is true."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from streamlight.enhance.color import planes_from_rgb
from streamlight.errors import ConfigError
from streamlight.evaluation.darkened import CAMERAS, CURVE, EXPOSURE
from streamlight.evaluation.flow import estimate_flow, same_shot, warp
from streamlight.evaluation.stability_meter import StabilityMeter
from streamlight.evaluation.stability_video import evaluate_stability
from streamlight.evaluation.truth import PLACES, Place, TruthFrame, night_scene, write_night_scene
from streamlight.evaluation.truth_render import draw, exact_motion
from streamlight.evaluation.truth_world import Camera, Light, Piece, Setting, Surface
from streamlight.media import ColorSpec, Frame, open_source
from streamlight.training.degradation import noise_variance

CUT = 7


@cache
def clip(place: Place) -> list[TruthFrame]:
    return list(night_scene(place, frames=10, width=256, height=144, seed=3, cut=CUT))


def array(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


def luma(picture: torch.Tensor) -> np.ndarray:
    return 16 + 219 * (array(picture) @ np.float32([0.2126, 0.7152, 0.0722]))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def picture_frame(picture: torch.Tensor, index: int) -> Frame:
    return Frame(planes_from_rgb(picture, ColorSpec()), ColorSpec(), pts=index, time_base=Fraction(1, 25))


@pytest.mark.parametrize(("place", "gain"), [("yard", 2.5), ("drive", 6.0)])
def test_warping_by_the_motion_gives_the_next_frame(place: Place, gain: float) -> None:
    for now, following in pairwise(clip(place)):
        if following.cut:
            continue
        one, other = array(now.reflectance), array(following.reflectance)
        error = warp(other, now.motion) - one
        assert 0.75 < now.visible.mean() < 0.97
        assert rms(error[now.visible]) < 0.01
        assert np.quantile(np.abs(error[now.visible]), 0.99) < 0.04
        assert rms((other - one)[now.visible]) > gain * rms(error[now.visible])
        assert rms(error[~now.visible]) > 5 * rms(error[now.visible])


def test_clean_frames_follow_where_the_light_stays() -> None:
    """In the yard only the headlights of the passing car move light about."""
    for now, following in zip(clip("yard")[: CUT - 1], clip("yard")[1:CUT], strict=True):
        error = warp(array(following.clean), now.motion) - array(now.clean)
        assert rms(error[now.visible]) < 0.012
        assert np.median(np.abs(error[now.visible])) < 0.002


@pytest.mark.parametrize("place", PLACES)
def test_motion_is_what_an_independent_flow_sees(place: Place) -> None:
    now, following = clip(place)[:2]
    apart = np.linalg.norm(estimate_flow(luma(now.clean), luma(following.clean)) - now.motion, axis=-1)
    assert np.median(apart[now.visible]) < 0.5
    assert np.abs(now.motion).max() > 3


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_seen_across_a_cut(place: Place) -> None:
    frames = clip(place)
    assert [frame.cut for frame in frames] == [index == CUT for index in range(10)]
    assert [frame.shot for frame in frames] == [int(index >= CUT) for index in range(10)]
    assert not frames[CUT - 1].visible.any()
    assert not frames[CUT - 1].motion.any()
    for picture in ("clean", "dark"):
        shots = [luma(getattr(frame, picture)) for frame in frames]
        told = [same_shot(one, other) for one, other in pairwise(shots)]
        assert told == [index != CUT for index in range(1, 10)]


def test_the_lamp_goes_off_and_on_without_a_cut() -> None:
    frames = list(night_scene("yard", frames=110, width=64, height=36, cut=999))
    lamps = np.array([frame.lamp for frame in frames])
    assert lamps[:60].all()
    assert not lamps[60:100].any()
    assert lamps[100:].all()
    assert not any(frame.cut for frame in frames)
    level = np.array([frame.clean.mean().item() for frame in frames])
    assert level[59] > 1.2 * level[60]
    assert level[100] > 1.2 * level[99]
    assert np.abs(np.diff(level[:60])).max() < 0.01
    assert same_shot(luma(frames[59].clean), luma(frames[60].clean))
    assert frames[59].visible.mean() > 0.5


def test_the_same_seed_gives_the_same_frames() -> None:
    first = clip("drive")
    again = list(night_scene("drive", frames=4, width=256, height=144, seed=3, cut=CUT))
    for one, other in zip(again, first, strict=False):
        for name in ("linear", "clean", "dark", "reflectance"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(one.motion, other.motion)
        assert np.array_equal(one.visible, other.visible)
    other = next(night_scene("drive", frames=1, width=256, height=144, seed=4))
    assert (other.clean - first[0].clean).abs().mean() > 0.02
    assert (first[1].dark - first[0].dark).abs().mean() > 0


def test_a_still_scene_has_the_noise_of_the_camera_and_no_other_change() -> None:
    frames = list(night_scene("yard", frames=150, width=64, height=48, still=True))
    first = frames[0]
    assert all(torch.equal(frame.clean, first.clean) and frame.visible.all() and not frame.cut for frame in frames)
    assert not frames[-1].motion.any()
    light = torch.stack([_linear(frame.dark) for frame in frames]).double()
    expected = noise_variance(EXPOSURE * first.linear, CAMERAS["surveillance"]).double()
    mean, variance = light.mean(0), light.var(0)
    lit = (EXPOSURE * first.linear > 5 * expected.sqrt()) & (EXPOSURE * first.linear < 0.5)
    assert lit.float().mean() > 0.2
    assert (mean / (EXPOSURE * first.linear))[lit].mean() == pytest.approx(1, rel=0.01)
    assert (variance / expected)[lit].mean() == pytest.approx(1, rel=0.05)


def _linear(value: torch.Tensor) -> torch.Tensor:
    """The tone curve inverted, by a table of its own."""
    x = np.linspace(0, 1, 200_001)
    v = x ** (1 / CURVE.gamma)
    s = CURVE.contrast
    return torch.from_numpy(np.interp(value.numpy(), (1 - s) * v + s * (3 * v**2 - 2 * v**3), x))


@pytest.mark.parametrize("size", [(16, 16), (37, 61), (161, 90)])
def test_any_size(size: tuple[int, int]) -> None:
    for place in PLACES:
        for frame in night_scene(place, frames=2, width=size[0], height=size[1]):
            assert frame.dark.shape == frame.linear.shape == (3, size[1], size[0])
            assert frame.motion.shape == (size[1], size[0], 2)
            assert frame.visible.shape == (size[1], size[0])
            assert frame.dark.min() >= 0
            assert frame.dark.max() <= 1
            assert frame.linear.max() > 1


def test_far_down_the_street_nothing_breaks() -> None:
    late = list(night_scene("drive", frames=3, width=160, height=90, cut=999, rate=Fraction(1, 20_000)))
    assert all(0.15 < frame.clean.mean() < 0.7 for frame in late)


def test_clips_of_a_pair_belong_together(tmp_path: Path) -> None:
    words = {"frames": 12, "width": 128, "height": 96, "cut": 8, "seed": 5}
    dark = write_night_scene(tmp_path / "dark.mp4", "yard", **words)
    clean = write_night_scene(tmp_path / "clean.mkv", "yard", picture="clean", **words)
    with open_source(clean) as source:
        decoded = [frame.planes[0] for frame in source.frames()]
    made = list(night_scene("yard", **words))
    assert len(decoded) == 12
    assert all(np.abs(codes - luma(frame.clean)).max() < 1 for codes, frame in zip(decoded, made, strict=True))
    found = evaluate_stability(clean, source=dark, reference=clean)
    assert found.cuts == [8]
    assert found.figures["source"].level == pytest.approx(
        np.mean([luma(frame.dark).mean() - 16 for frame in made]), rel=0.1
    )


def test_a_ghost_is_found_by_the_truth() -> None:
    """What trails behind moving things is an error along the true motion; a perfect result is none."""
    figures = {}
    for name, keep in (("perfect", 0.0), ("trailing", 0.5)):
        meter, memory, before = StabilityMeter(("enhanced", "source", "reference")), None, None
        for frame in clip("drive"):
            memory = frame.clean if memory is None else keep * memory + (1 - keep) * frame.clean
            pictures = {"enhanced": memory, "source": frame.dark, "reference": frame.clean}
            frames = {role: picture_frame(picture, frame.index) for role, picture in pictures.items()}
            meter.add(frames, motion=None if before is None else (before.motion, before.visible))
            before = frame
        report = meter.report({"enhanced": name, "source": "dark", "reference": "clean"})
        assert report.cuts == [CUT]
        figures[name] = report.figures
    for key in ("level", "warp_error", "mabd", "flicker", "noise"):
        assert getattr(figures["perfect"]["enhanced"], key) == getattr(figures["perfect"]["reference"], key)
    assert figures["perfect"]["enhanced"].psnr is None
    assert figures["trailing"]["enhanced"].psnr_moving < 30
    assert figures["trailing"]["reference"].warp_error == figures["perfect"]["reference"].warp_error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"place": "beach"}, "unknown place 'beach'"),
        ({"frames": 0}, "one frame"),
        ({"width": 8}, "at least 16x16"),
        ({"cut": 0}, "a cut at 0"),
    ],
)
def test_wrong_use(words: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        next(night_scene(**({"place": "yard", "frames": 2} | words)))


def test_odd_sizes_make_no_clip(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="even size"):
        write_night_scene(tmp_path / "x.mp4", "yard", frames=2, width=65, height=48)


def test_a_wall_seen_by_a_camera_that_moves_aside() -> None:
    """Motion is -f dx / z; what is in front hides what is behind; edges are averaged over the pixel."""
    size = 64
    focal = size / 2  # a field of view of 90 degrees
    wall = Piece((0, 0, 8), (100, 100), Surface((0.5, 0.5, 0.5)), rank=0)
    card = Piece((0, 0, 4), (1, 1), Surface((1.0, 0.0, 0.0), 0.0))
    pictures = []
    for x in (0.0, 0.4):
        setting = Setting(Camera((x, 0, 0), field_of_view=90), (wall, card), (Light((0, 0, 0), (9, 9, 9)),), (1, 1, 1))
        pictures.append(draw(setting, width=size, height=size))
    motion, visible = exact_motion(*pictures)
    on_card = pictures[0].piece == 1
    assert on_card.sum() == (2 * focal / 4) ** 2
    assert np.allclose(motion[on_card], (-focal * 0.4 / 4, 0), atol=1e-4)
    assert np.allclose(motion[~on_card], (-focal * 0.4 / 8, 0), atol=1e-4)
    covered = (np.arange(size) >= 21) & (np.arange(size) < 24)  # where the card comes to stand before the wall
    assert not visible[24:40, covered & ~on_card[30]].any()
    assert visible[:20, 4:].all()
    assert visible[26:38, 26:38].all()
    part = draw(Setting(Camera((0.1 / 8, 0, 0), field_of_view=90), (card,), (), (1, 1, 1)), width=size, height=size)
    assert part.linear[32, 23, 0] == pytest.approx(0.1, abs=1e-3)  # an edge a tenth of a pixel into it
    assert part.linear[32, 39, 0] == pytest.approx(0.9, abs=1e-3)
    assert not part.pure[32, 23]
