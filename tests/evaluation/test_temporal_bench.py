"""The benchmark of steadiness: its material, its ways of running a model, its table, and the whole on small clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from streamlight.cli._main import run
from streamlight.config import load_config
from streamlight.enhance import Enhancer, EnhanceSettings
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.contenders import Contender, parse_contender
from streamlight.evaluation.scenes import write_scene
from streamlight.evaluation.temporal_bench import DEFAULT, bench_temporal, contenders_of, read_bench, steady_rows
from streamlight.evaluation.temporal_clips import clips_to_measure, darkened_clip, drawn_clip
from streamlight.evaluation.temporal_overhead import overhead_row
from streamlight.evaluation.temporal_page import markdown
from streamlight.evaluation.temporal_parts import cut_row, fidelity, guided_rows, still_rows, warm_rows
from streamlight.evaluation.temporal_rows import MEASURES, Row, table
from streamlight.evaluation.temporal_ways import Subject, Taken, Way, enhance_frames, take
from streamlight.media import Frame
from streamlight.models import load
from streamlight.temporal import StreamState

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
LLFLOW = GOLDEN / "llflow" / "weights.safetensors"
LLDIFFUSION = GOLDEN / "lldiffusion" / "lol_tiny_weights.safetensors"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet(_: str) -> None:
    pass


def subject(name: str | Path, **values: Any) -> Subject:
    return Subject.of(Contender(Path(name).stem, load_config(values={"model": str(name), **values})))


def test_clean_frames_are_steady_and_dark_ones_are_not() -> None:
    clip = drawn_clip("yard", frames=8, width=96, height=54, cut=5)
    assert clip.cut == 5
    clean, dark = (clip.judge(list(frames)) for frames in (clip.clean, clip.dark))
    assert clean.cuts == [5]  # known from the truth, not estimated
    assert clean.figures["enhanced"].warp_error == clean.figures["reference"].warp_error
    assert dark.figures["enhanced"].psnr is not None
    assert dark.figures["enhanced"].psnr < 20
    assert fidelity(clip.clean, clip.clean) == 100.0
    # Exact motion brings a frame to the next one; without it they differ.
    blind = replace(clip, motion=(None, *((np.zeros_like(m[0]), m[1]) for m in clip.motion if m is not None)))
    still = blind.judge(list(clip.clean)).figures["enhanced"].warp_error
    assert still is not None
    assert clean.figures["enhanced"].warp_error is not None
    assert clean.figures["enhanced"].warp_error < still


def test_a_darkened_clip_is_reduced_then_darkened(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "busy.mp4", "busy", frames=8, width=160, height=120)
    clip = darkened_clip(path, camera="surveillance", frames=8, long_side=64)
    assert clip.size == "64x48"
    assert {frame.planes[0].shape for frame in (*clip.clean, *clip.dark)} == {(48, 64)}
    assert clip.motion == (None,) * 8
    means = [np.mean([frame.planes[0].mean() - 16 for frame in frames]) for frames in (clip.dark, clip.clean)]
    assert means[0] < 0.45 * means[1]
    again = darkened_clip(path, camera="surveillance", frames=8, long_side=64)
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(clip.dark, again.dark, strict=True))
    with pytest.raises(MediaError, match="has 8 frames, 9 are needed"):
        darkened_clip(path, camera="surveillance", frames=9, long_side=64)


def test_material_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8 frames and an even size"):
        clips_to_measure(None, frames=7, long_side=64)
    with pytest.raises(ConfigError, match="got 8 and 65"):
        clips_to_measure(None, frames=8, long_side=65)
    with pytest.raises(MediaError, match=r"opencv_vtest\.avi: is missing"):
        clips_to_measure(tmp_path, frames=8, long_side=64)


def test_frame_by_frame_draws_noise_anew_and_remembers_nothing() -> None:
    llflow = subject(LLFLOW)
    assert (llflow.pictures, llflow.samples, llflow.steps, llflow.mode) == (True, True, False, "direct")
    frame = drawn_clip("yard", frames=8, width=48, height=32).dark[0]
    same = [replace(frame, pts=index) for index in range(3)]
    before = frame.planes[0].copy()
    with closing(llflow.open(temperature=1.0, stability=0.0)) as enhancer:
        anew = enhance_frames(enhancer, same, mode="direct", anew=True)
        held = enhance_frames(enhancer, same, mode="direct")
    assert not np.array_equal(anew.frames[0].planes[0], anew.frames[1].planes[0])
    assert np.array_equal(anew.frames[0].planes[0], held.frames[0].planes[0])  # both begin with the same seed
    assert np.array_equal(held.frames[0].planes[0], held.frames[2].planes[0])
    assert np.array_equal(frame.planes[0], before)
    assert len(anew.seconds) == 3
    assert min(anew.seconds) > 0


def test_what_is_taken_is_what_the_meter_says() -> None:
    clip = drawn_clip("yard", frames=8, width=96, height=54, cut=5)
    retinex = subject("retinex")
    assert (retinex.pictures, retinex.samples, retinex.mode) == (False, False, "guided")
    with closing(retinex.open()) as enhancer:
        taken = take(retinex, Way(DEFAULT, None), clip, enhancer)
        report = clip.judge(enhance_frames(enhancer, clip.dark, mode="guided").frames)
    own = report.figures["enhanced"]
    assert (taken.warp_error, taken.flicker, taken.psnr) == (own.warp_error_steady, own.flicker_steady, own.psnr)
    assert taken.clean_warp_error == report.figures["reference"].warp_error_steady
    assert own.flicker_ratio == pytest.approx((taken.flicker or 0) / (taken.clean_flicker or 1))
    assert len(taken.levels) == len(taken.clean_levels) == 8


def fake(stability: float | None, clip: str, warp: float, flicker: float, psnr: float) -> Taken:
    return Taken(
        model="m", clip=clip, stability=stability, temperature=1.0, seconds=0.1, level=100.0, warp_error=warp,
        clean_warp_error=1e-3, flicker=flicker, clean_flicker=0.5, noise=None, psnr=psnr, psnr_moving=psnr - 1.0,
        ssim=0.5, levels=[100.0] * 8, clean_levels=[90.0] * 8,
    )  # fmt: skip


def test_rows_are_means_over_the_clips_and_know_their_goals() -> None:
    taken = [
        fake(None, "a", 4e-3, 2.0, 20.0),
        fake(None, "b", 6e-3, 4.0, 22.0),
        fake(0.0, "a", 2e-3, 1.0, 20.0),
        fake(DEFAULT, "a", 1e-3, 0.5, 20.5),
        fake(DEFAULT, "b", 2e-3, 0.7, 21.0),
    ]
    rows = {row.measure: row for row in steady_rows("m", taken, 1.0)}
    assert rows["warp_1"].figure == pytest.approx(0.3)
    assert rows["warp_1"].met is True
    assert rows["warp_1_same"].figure == pytest.approx(0.75)
    assert rows["warp_1_same"].met is None  # told, no goal
    assert rows["flicker_1"].met is True
    assert rows["flicker_1_clean"].figure == pytest.approx(1.2)
    assert rows["flicker_1_clean"].met is False
    assert rows["psnr_1"].figure == pytest.approx(-0.25)
    assert rows["psnr_1"].met is False
    assert rows["moving_1"].met is False
    text = table(rows.values())
    assert "| E_warp, x 0.001, temperature 1 | ≤ 0.33 times | 5.000 → 1.500: 0.30 |" in text
    assert "| PSNR, temperature 1 | ≥ +0 dB | **21.00 → 20.75: -0.25** |" in text
    assert "cut" not in text  # what was not measured has no line
    assert set(rows) <= set(MEASURES)


def test_values_and_speeds() -> None:
    assert Row("cut", "m", 0.0).met is True
    assert Row("cut", "m", 2e-3).met is False
    assert Row("guided_speed", "m", after=45.0, before=2.0).met is True
    assert Row("guided_speed", "m", after=38.0, before=2.0).cell() == "**2 → 38: 19.00**"
    assert Row("warp_1", "m", after=1.0, before=0.0).met is None
    assert Row("warm", "m", after=19.8, before=20.0).met is True
    assert json.dumps(Row("still_drift", "m", 0.4, note="10 frames").to_dict())


class _Drifting(Enhancer):
    """Makes every frame as bright as it is old, and keeps every frame."""

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        for frame, state in zip(frames, states, strict=True):
            luma = np.full_like(frame.planes[0], 20 + state.age)
            frame.planes = (luma, *frame.planes[1:])
            state.age += 1
            state.memory.append(luma.copy())
        return list(frames)


def test_drift_and_memory_that_grows_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    retinex = subject("retinex")
    rows, levels = still_rows(retinex, frames=30, tell=quiet)
    found = {row.measure: row for row in rows}
    assert len(levels) == 30
    assert found["still_drift"].after < 3.0
    assert found["still_memory"].after < 1.1
    monkeypatch.setattr(Subject, "open", lambda self, **values: _Drifting(load("retinex"), EnhanceSettings()))
    rows, levels = still_rows(retinex, frames=30, tell=quiet)
    found = {row.measure: row for row in rows}
    assert levels == [float(4 + age) for age in range(30)]
    # A fifth of the last 20 frames is a window of 4: from the mean of its first to that of its last, 16 codes.
    assert found["still_drift"].after == pytest.approx(16 * 255 / 219)
    assert found["still_drift"].met is False
    assert found["still_memory"].met is False
    assert "30 frames of 128x72" in found["still_memory"].note


@pytest.mark.parametrize("name", ["retinex", LLFLOW])
def test_behind_a_cut_all_is_as_at_the_start(name: str | Path) -> None:
    row = cut_row(subject(name))
    assert row.after == 0.0
    assert row.met is True


def test_a_memory_that_survives_a_cut_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "open", lambda self, **values: _Drifting(load("retinex"), EnhanceSettings()))
    row = cut_row(subject("retinex"))
    assert row.after == pytest.approx(5 / 219)  # five frames older than the cold one
    assert row.met is False


def test_warm_and_guided_rows() -> None:
    clip = drawn_clip("yard", frames=8, width=96, height=64, cut=8)
    small = replace(clip, dark=clip.dark[:4], clean=clip.clean[:4], motion=clip.motion[:4])
    sampler = subject(LLDIFFUSION)
    assert sampler.steps
    warm, speed = warm_rows(sampler, [small])
    assert warm.before is not None
    assert warm.figure is not None
    assert speed.figure is not None
    assert speed.figure > 1.5  # 4 evaluations instead of 25, whatever else the machine does
    rows = {row.measure: row for row in guided_rows(subject(LLFLOW), small, tell=quiet)}
    assert set(rows) == {"guided", "guided_speed", "keyed", "keyed_speed"}
    assert rows["guided"].before == rows["keyed"].before
    assert rows["guided"].after != rows["keyed"].after  # the last frame is three behind the key frame
    assert rows["keyed_speed"].after > 0


def test_overhead_is_told_of_every_kind_of_model() -> None:
    for name in ("retinex", LLFLOW, LLDIFFUSION):
        row = overhead_row(subject(name), frames=6, size=(128, 72))
        assert np.isfinite(row.after)
        assert row.after > 0
        assert "128x72" in row.note


def test_words_of_the_command() -> None:
    assert [one.label for one in contenders_of(())] == ["tonenet", "retinex"]
    found = contenders_of(["retinex"], [f"llflow={LLFLOW}"])
    assert [one.label for one in found] == ["retinex", "llflow"]
    assert found[1].weights == LLFLOW
    with pytest.raises(ConfigError, match="expected NAME=FILE"):
        contenders_of((), ["weights.safetensors"])
    with pytest.raises(ConfigError, match="unknown part 'speed'"):
        bench_temporal(parts=["speed"])
    with pytest.raises(ConfigError, match="10 frames or more"):
        bench_temporal(still_frames=5)
    with pytest.raises(ConfigError, match="two models are called 'retinex'"):
        bench_temporal([parse_contender("retinex"), parse_contender("retinex")])


def test_the_whole_command(tmp_path: Path) -> None:
    page, data = tmp_path / "temporal.md", tmp_path / "temporal.json"
    words = [
        "bench",
        "temporal",
        "retinex",
        "--weights",
        f"llflow={LLFLOW}",
        "--frames",
        "8",
        "--size",
        "48",
        "--sweep",
    ]
    words += ["--part", "steady", "--part", "cut", "--part", "still", "--still-frames", "280", "--still-pictures", "10"]
    assert run([*words, "-q", "--json", str(data), "-o", str(page)]) == 0
    found = json.loads(data.read_text("utf-8"))
    assert set(found["models"]) == {"retinex", "llflow"}
    assert found["models"]["llflow"]["sha256"]
    measures = {(row["model"], row["measure"]) for row in found["rows"]}
    assert {("llflow", "warp_1"), ("llflow", "flicker_0"), ("retinex", "warp_0"), ("retinex", "cut")} <= measures
    assert ("retinex", "warp_1") not in measures  # it does not sample
    values = {(one["temperature"], one["stability"]) for one in found["taken"] if one["model"] == "llflow"}
    assert values == {
        *((0.0, value) for value in (None, 0.25, 0.5, 0.75, 1.0)),  # swept at its own temperature
        *((1.0, value) for value in (None, 0.0, DEFAULT)),
    }
    assert len(found["still"]["retinex"]) == 12  # means of seconds
    text = page.read_text("utf-8")
    assert str(GOLDEN) not in text + data.read_text("utf-8")
    for plot in ("stability", "luma", "still"):
        assert f"images/temporal_{plot}.png" in text
        drawn = cv2.imread(str(tmp_path / "images" / f"temporal_{plot}.png"))
        assert drawn is not None
        assert drawn.shape[1] == 1600
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50


def test_results_are_read_back_and_joined(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"parts": ["cut"], "frames": 8, "size": 48}
    first = bench_temporal([parse_contender("retinex"), parse_contender("tonenet")], command="first", **settings)
    file = tmp_path / "first.json"
    file.write_text(json.dumps(first.to_dict()), "utf-8")
    assert json.dumps(read_bench(file).to_dict()) == json.dumps(first.to_dict())
    second = bench_temporal([parse_contender("retinex")], command="second", **settings)
    both = read_bench(file).joined(second)
    assert both.commands == ["first", "second"]
    assert sorted(both.models) == ["retinex", "tonenet"]
    assert [row.model for row in both.rows] == ["tonenet", "retinex"]
    with pytest.raises(ConfigError, match="differ in frames: 8, 9"):
        first.joined(replace(second, frames=9))
    file.write_text('{"rows": []}', "utf-8")
    with pytest.raises(MediaError, match=r"first\.json: is no result of 'streamlight bench temporal"):
        read_bench(file)
    with pytest.raises(MediaError, match=r"missing\.json: cannot be read"):
        read_bench(tmp_path / "missing.json")


def test_a_page_says_what_it_was_measured_with(tmp_path: Path) -> None:
    bench = bench_temporal([parse_contender("retinex")], parts=["cut"], frames=8, size=48, command="streamlight x")
    text = markdown(bench, {})
    assert "    $ streamlight x" in text
    assert "retinex: 0 parameters" in text
    assert "yard, drawn (48x28)" in text
    assert "## Stability" not in text
