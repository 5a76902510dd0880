"""`streamlight evaluate stability` as it is used, on clips whose figures are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamlight.cli._main import run
from streamlight.evaluation.fidelity import Fidelity
from streamlight.evaluation.flow import same_shot
from streamlight.evaluation.stability_video import evaluate_stability
from streamlight.media.clips import write_clip
from streamlight.media.encode import EncodeSettings
from streamlight.media.frame import ColorSpec, Frame
from tests.evaluation.pictures import scene

WIDTH, HEIGHT, FRAMES, RATE = 96, 64, 24, Fraction(10)
GREY = ColorSpec(range="limited")
WORLD = cv2.GaussianBlur(scene(WIDTH + 2 * FRAMES, HEIGHT)[..., 1].astype(np.float32), (0, 0), 1.5) * 0.6 + 30


def view(index: int) -> np.ndarray:
    """Luma codes of a pan, two pixels a frame."""
    return WORLD[:, 2 * index : 2 * index + WIDTH]


def clip(
    path: Path, luma: Callable[[int], np.ndarray] = view, *, frames: int = FRAMES, color: ColorSpec = GREY
) -> Path:
    """Frames as they are, without loss."""

    def made(index: int) -> Frame:
        codes = np.clip(np.rint(luma(index)), 0, color.peak).astype(color.dtype)
        grey = np.full((codes.shape[0] // 2, codes.shape[1] // 2), (color.peak + 1) // 2, color.dtype)
        return Frame((codes, grey, grey), color, pts=index, time_base=1 / RATE)

    write_clip(path, map(made, range(frames)), settings=EncodeSettings(codec="ffv1"), rate=RATE)
    return path


def dark(index: int) -> np.ndarray:
    return 16 + (view(index) - 16) / 8


def test_a_perfect_result_and_one_that_flickers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, source = clip(tmp_path / "clean.mkv"), clip(tmp_path / "dark.mkv", dark)
    clip(tmp_path / "shaking.mkv", lambda i: view(i) + 2 * (-1) ** i)
    words = ["--source", str(source), "--reference", str(clean)]
    reports = []
    for name in ("clean", "shaking"):
        target = tmp_path / f"{name}.json"
        assert run(["evaluate", "stability", str(tmp_path / f"{name}.mkv"), *words, "--json", str(target)]) == 0
        reports.append(json.loads(target.read_text()))
    perfect, flickers = (report["figures"]["enhanced"] for report in reports)
    assert perfect == {
        **reports[0]["figures"]["reference"],
        "mabd_distance": 0,
        "brightness": {"mean": 0, "variance": 0, "mean_square": 0},
        "flicker_ratio": 1,
        "drift": {"change": 0, "spread": 0, "per_minute": 0},
        "ssim": pytest.approx(1),
        "ssim_moving": pytest.approx(1),
    }
    assert flickers["brightness"]["mean_square"] == pytest.approx(4, rel=0.01)
    assert flickers["flicker"] == pytest.approx(8, rel=0.02)
    assert flickers["flicker_ratio"] > 5
    assert flickers["warp_error"] == pytest.approx((4 / 219) ** 2, rel=0.1)
    assert flickers["warp_error"] > 20 * perfect["warp_error"]
    assert flickers["psnr"] == pytest.approx(20 * np.log10(219 / 2), abs=0.02)
    assert flickers["psnr_moving"] == pytest.approx(flickers["psnr"], abs=0.02)
    assert reports[1]["guide"] == "reference"
    assert reports[1]["frames"] == FRAMES
    assert "| 96x64, 24 frames, 0 cuts, 0 jumps of light | enhanced | source | reference |" in capsys.readouterr().out


def test_what_a_result_hides_does_not_change_the_flow(tmp_path: Path) -> None:
    """A smeared result is steady along its own motion, not along the scene's."""
    source = clip(tmp_path / "dark.mkv", dark)
    frozen = clip(tmp_path / "frozen.mkv", lambda _: view(0))
    found = evaluate_stability(frozen, source=source)
    assert found.guide == "source"
    assert (
        found.figures["enhanced"].warp_error
        > 10 * evaluate_stability(clip(tmp_path / "clean.mkv"), source=source).figures["enhanced"].warp_error
    )
    assert found.figures["enhanced"].psnr is None
    assert found.figures["enhanced"].mabd == 0


def test_depth_and_range_of_the_files_do_not_matter(tmp_path: Path) -> None:
    clean = clip(tmp_path / "clean.mkv")
    ten = clip(tmp_path / "ten.mkv", lambda i: np.rint(view(i)) * 4, color=ColorSpec(range="limited", bit_depth=10))
    full = ColorSpec(range="full", tags=(2, 2, 2, 2))
    wide = clip(tmp_path / "wide.mkv", lambda i: (np.rint(view(i)) - 16) * (255 / 219), color=full)
    for other, near in ((ten, 1e-9), (wide, 0.2)):
        found = evaluate_stability(other, source=clean, reference=clean).figures["enhanced"]
        assert found.brightness is not None
        assert found.brightness.mean_square <= near
        assert found.psnr is None or found.psnr > 50


def test_noise_is_that_of_the_still_part_shot_by_shot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    views = [view(0), np.flip(view(20), 1) * 0.7 + 20]

    def still(index: int) -> np.ndarray:
        return views[index >= 14]

    def noisy(index: int) -> np.ndarray:
        return still(index) + rng.normal(0, 3, (HEIGHT, WIDTH))

    clean = clip(tmp_path / "clean.mkv", still)
    found = evaluate_stability(clip(tmp_path / "noisy.mkv", noisy), source=clean, reference=clean)
    assert found.cuts == [14]
    assert found.still == 1
    assert found.figures["enhanced"].noise == pytest.approx(3, rel=0.06)  # of 14 and 10 frames, rounded to codes
    assert found.figures["source"].noise == found.figures["source"].flicker == found.figures["source"].warp_error == 0
    assert found.series["enhanced"].warp_error[13] is None
    assert all(error is not None for i, error in enumerate(found.series["enhanced"].warp_error) if i != 13)


def test_noise_of_long_clips_is_found_in_the_dark_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = clip(tmp_path / "dark.mkv", lambda _: dark(0) + rng.normal(0, 1.5, (HEIGHT, WIDTH)), frames=400)
    found = evaluate_stability(source, source=source)
    assert found.still > 0.9
    assert found.figures["source"].noise == pytest.approx(np.hypot(1.5, 12**-0.5), rel=0.03)


def test_a_lamp_does_not_hide_flicker(tmp_path: Path) -> None:
    """The light of the scene jumps once; the result flickers all the time."""

    def lamp(index: int) -> np.ndarray:
        return 16 + (view(0) - 16) * (0.5 if index < 9 else 1.0)

    clean = clip(tmp_path / "clean.mkv", lamp)
    found = evaluate_stability(clip(tmp_path / "out.mkv", lambda i: lamp(i) + (-1) ** i), source=clean, reference=clean)
    own, other = found.figures["enhanced"], found.figures["reference"]
    assert (found.cuts, found.jumps) == ([], [9])
    assert own.flicker < 2 * other.flicker
    assert own.flicker_steady == pytest.approx(4, rel=0.01)
    assert other.flicker_steady == other.warp_error_steady == 0
    assert own.warp_error_steady == pytest.approx((2 / 219) ** 2, rel=0.02)
    assert other.warp_error > 100 * own.warp_error_steady / len(found.seconds)


def test_a_cut_is_told_from_lamps_and_motion() -> None:
    one, other = view(0), np.flip(view(20), (0, 1))
    assert not same_shot(one, other)
    assert same_shot(one, view(3))
    assert same_shot(one, 16 + (one - 16) * 0.4)
    lamp = one.copy()
    lamp[:40, :40] += 60
    assert same_shot(one, lamp)
    assert same_shot(np.full((40, 60), 16.0), np.full((40, 60), 90.0))


def test_fidelity_of_what_moves() -> None:
    clean = np.random.default_rng(0).random((40, 50), np.float32) * 0.8
    moving = np.zeros(clean.shape, bool)
    moving[:, :20] = True
    meter = Fidelity()
    assert meter.psnr() is None
    assert meter.ssim(moving=True) is None
    meter.add(clean + np.where(moving, np.float32(0.1), np.float32(0)), clean, moving=moving)
    assert meter.psnr(moving=True) == pytest.approx(20, abs=1e-3)
    assert meter.psnr() == pytest.approx(20 - 10 * np.log10(0.4), abs=1e-3)
    assert meter.ssim(moving=True) < meter.ssim() < 1


def test_the_plot_is_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, source = clip(tmp_path / "clean.mkv"), clip(tmp_path / "dark.mkv", dark)
    plot = tmp_path / "plot.png"
    words = ["evaluate", "stability", str(clean), "--source", str(source)]
    assert run([*words, "--plot", str(plot), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == "96x64"
    picture = cv2.imread(str(plot))
    assert picture.shape == (1200, 1600, 3)
    blue = (picture[..., 0].astype(int) - picture[..., 2] > 100).sum((1,))
    assert all(blue[rows].any() for rows in (slice(155, 450), slice(520, 810), slice(860, 1130)))
    assert run([*words, "--plot", str(tmp_path / "plot.pdf")]) == 2
    assert ".png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("short", "ends after 20 frames"),
        ("small", "all files must have the same size"),
        ("gone", "gone.mkv"),
    ],
)
def test_files_that_do_not_belong_together(
    other: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(tmp_path / "short.mkv", frames=20)
    clip(tmp_path / "small.mkv", lambda i: view(i)[:48])
    clean, wrong = clip(tmp_path / "clean.mkv"), str(tmp_path / f"{other}.mkv")
    for words in ([str(clean), "--source", wrong], [wrong, "--source", str(clean)]):
        assert run(["evaluate", "stability", *words]) != 0
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_too_little_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = str(clip(tmp_path / "two.mkv", frames=2))
    assert run(["evaluate", "stability", two, "--source", two]) != 0
    assert "has 2 frames" in capsys.readouterr().err
    tiny = str(clip(tmp_path / "tiny.mkv", lambda i: view(i)[:12]))
    assert run(["evaluate", "stability", tiny, "--source", tiny]) != 0
    assert "at least 16x16" in capsys.readouterr().err
