"""Recordings that a camera cut into files become one video: in order, nothing lost, decisions carried over."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from streamlight.pipelines.dashcam import Segment, plan_recordings, recordings
from streamlight.pipelines.offline import enhance_many

from streamlight.config import load_config
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.errors import ConfigError
from tests.clips import make_clip, packets, video_times

CONFIG = {"join": True, "model": "retinex", "workers": 1, "encoder_preset": "ultrafast", "segment_frames": 10}


def segment(name: str, begin: float | None, duration: float | None = 60.0, *, number: int | None = None) -> Segment:
    return Segment(Path(name), (name.rstrip("0123456789"),), begin, duration, number)


def names(found: list[list[Segment]]) -> list[list[str]]:
    return [[one.path.name for one in recording] for recording in found]


def test_files_that_follow_one_another_are_one_recording() -> None:
    found = recordings([segment("a1", 0), segment("a2", 60), segment("a3", 121), segment("a4", 300)])
    assert names(found) == [["a1", "a2", "a3"], ["a4"]]


def test_two_cameras_that_alternate_do_not_mix() -> None:
    order = [segment("front1", 0), segment("rear1", 0), segment("front2", 60), segment("rear2", 60)]
    assert names(recordings(order)) == [["front1", "front2"], ["rear1", "rear2"]]


@pytest.mark.parametrize(
    ("begin", "duration", "goes_on"),
    [(60, 60, True), (58, 60, True), (64, 60, True), (50, 60, False), (70, 60, False), (0, 2, False), (180, None, True),
     (5000, None, False)],
)  # fmt: skip
def test_the_clock_decides_what_goes_on(begin: float, duration: float | None, goes_on: bool) -> None:
    assert segment("a1", 0, duration).goes_on_in(segment("a2", begin)) is goes_on


def test_without_a_clock_the_number_decides() -> None:
    first = segment("a7", None, number=7)
    assert first.goes_on_in(segment("a8", None, number=8))
    assert not first.goes_on_in(segment("a9", None, number=9))
    assert not segment("a", None).goes_on_in(segment("a", None))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of a second each, with names that only their time tells apart; one of them is awkward."""
    folder = tmp_path_factory.mktemp("it's a drive")
    for number in range(3):
        make_clip(folder / f"NO 20240101-12000{number}.mp4", frames=25, seed=number)
    return folder


def test_a_folder_becomes_one_video_with_every_frame_and_packet(drive: Path, tmp_path: Path) -> None:
    out = tmp_path / "drive.mp4"
    (report,) = enhance_many([drive], out, config=load_config(values=CONFIG))
    assert report.status == "done"
    assert report.frames["out"] == 75
    assert any(notice.code == "joined" and "3 files" in notice.message for notice in report.warnings)
    times = video_times(out)
    assert len(times) == 75
    steps = np.diff([float(time) for time in times])
    assert steps.min() > 0.0
    assert np.median(steps) == pytest.approx(0.04, abs=1e-4)
    assert steps.max() < 0.25  # where the files meet: sound and picture of a file do not end together
    sound = [packet[-1] for file in sorted(drive.iterdir()) for packet in packets(file) if packet[0] == 1]
    assert [packet[-1] for packet in packets(out) if packet[0] == 1] == sound
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive.mp4"]


def test_decisions_are_carried_over_the_cuts(drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    new_state = GuidedEnhancer.new_state
    monkeypatch.setattr(GuidedEnhancer, "new_state", lambda self: made.append(new_state(self)) or made[-1])
    enhance_many([drive], tmp_path / "joined", config=load_config(values=CONFIG))
    assert len(made) == 1
    assert (made[0].age, made[0].cuts) == (75, 0)
    enhance_many([drive], tmp_path / "apart", config=load_config(values=CONFIG | {"join": False}))
    assert len(made) == 4
    assert sorted(path.name for path in (tmp_path / "apart").iterdir()) == sorted(p.name for p in drive.iterdir())
    assert [path.name for path in (tmp_path / "joined").iterdir()] == ["NO 20240101-120000.mp4"]


def test_an_interrupted_drive_goes_on_where_it_stopped(drive: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.mp4", tmp_path / "drive.mp4"
    enhance_many([drive], whole, config=load_config(values=CONFIG))
    stop = threading.Event()

    def progress(job: object, moment: object) -> None:
        if moment.frames > 30:  # type: ignore[attr-defined]
            stop.set()

    (report,) = enhance_many([drive], out, config=load_config(values=CONFIG), progress=progress, stop=stop)
    if report.status == "interrupted":  # a quick machine may be through before it is told
        (report,) = enhance_many([drive], out, config=load_config(values=CONFIG | {"resume": True}))
        assert report.frames["resumed"] >= 10
    assert report.status == "done"
    assert packets(out) == packets(whole)


def test_a_file_that_was_never_closed_is_named_and_the_rest_is_joined(drive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    for file in drive.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    last = folder / "NO 20240101-120002.mp4"
    last.write_bytes(last.read_bytes()[:200])
    reports = enhance_many([folder], tmp_path / "out", config=load_config(values=CONFIG))
    assert [report.status for report in reports] == ["done", "failed"]
    assert reports[0].frames["out"] == 50
    assert "120002" in str(reports[1].error)


def test_several_recordings_do_not_go_into_one_file(drive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    for number, file in enumerate(sorted(drive.iterdir())):
        (folder / f"NO 20240101-12{number}000.mp4").write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="holds 3 recordings"):
        plan_recordings([folder], tmp_path / "one.mp4")
    plan = plan_recordings([folder], tmp_path / "many")
    assert [job.parts for job in plan.jobs] == [(), (), ()]
    assert [job.destination.name for job in plan.jobs] == [f"NO 20240101-12{number}000.mp4" for number in range(3)]


def test_the_preset_joins_and_protects_lights() -> None:
    config = load_config(preset="dashcam")
    assert config.input.join
    assert config.model.highlights > 0.0


def test_the_preset_runs_on_the_samples(tmp_path: Path) -> None:
    samples = Path(__file__).resolve().parents[2] / "samples"
    config = load_config(preset="dashcam", values={"end": "0.5", "model": "retinex"})
    reports = enhance_many([samples], tmp_path / "out", config=config)
    assert [report.status for report in reports] == ["done", "done"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["drive.mp4", "yard.mp4"]
    assert any("audio" in stream for report in reports for stream in report.streams_carried)
