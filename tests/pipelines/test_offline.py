"""Whole files: what came in goes out, in time, brighter; errors leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from streamlight.pipelines import segment_run
from streamlight.pipelines.offline import enhance_many
from streamlight.pipelines.plan import plan_jobs
from streamlight.pipelines.segment_run import turn_frame

from streamlight import ConfigError, MediaError, StreamlightError, enhance_video
from streamlight.config import load_config
from streamlight.media import Frame
from streamlight.media.frame import ColorSpec
from tests.clips import dark_picture, make_clip, mean_luma, packets, video_times


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "dark.mp4", frames=20)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "dark.png"
    write_photo(path)
    return path


def write_photo(path: Path) -> None:
    picture = av.VideoFrame.from_ndarray(dark_picture(0), format="yuv420p")
    picture.save(str(path))


@pytest.fixture(autouse=True)
def nothing_keeps_running():
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    # Threads for bands of rows are kept for the life of the process.
    assert [name for name in left if name.startswith("streamlight-") and "bands" not in name] == []


def ffprobe(path: Path, *args: str) -> dict:
    tool = shutil.which("ffprobe")
    if tool is None:
        pytest.skip("ffprobe of the distribution is not installed")
    run = subprocess.run([tool, "-v", "error", "-of", "json", *args, str(path)], capture_output=True, check=True)
    return json.loads(run.stdout)


def children() -> list[str]:
    listing = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return listing.read_text().split() if listing.exists() else []


def test_frames_times_and_sound_go_through(clip, tmp_path):
    target = tmp_path / "out.mp4"
    report = enhance_video(clip, target)
    assert report.status == "done"
    assert video_times(target) == video_times(clip)
    sound = [[p[1:] for p in packets(path) if p[0] == 1] for path in (clip, target)]
    assert sound[0] == sound[1] != []
    assert mean_luma(target) > 1.3 * mean_luma(clip)
    probed = [ffprobe(path, "-show_entries", "frame=pts_time", "-select_streams", "v") for path in (clip, target)]
    assert probed[0] == probed[1]
    assert list(tmp_path.iterdir()) == [target]


def test_the_report_says_what_happened(clip, tmp_path):
    report = enhance_video(clip, tmp_path / "out.mkv", strength=0.5, encoder_preset="ultrafast")
    data = json.loads(report.to_json())
    assert data["frames"] == {"in": 20, "out": 20, "damaged": 0, "resumed": 0}
    assert data["dropped"] == {}
    assert [s["name"] for s in data["stages"]] == ["decode", "enhance", "encode"]
    assert all(s["items_out"] == 20 for s in data["stages"])
    assert data["latency"]["count"] == 20
    assert 0 < data["latency"]["p50"] <= data["latency"]["p99"] <= data["wall_seconds"]
    assert data["codecs"]["encoder"] == "libx264"
    assert data["codecs"]["output_container"] == "matroska"
    assert [s.split()[0] for s in data["streams_carried"]] == ["audio"]
    assert data["streams_not_carried"] == []
    assert data["peak_memory_bytes"] > 1 << 20
    assert data["fps"] > 0
    assert data["settings"]["model"]["strength"] == 0.5
    assert data["error"] is None


@pytest.mark.parametrize(("layout", "width"), [("side", 128), ("split", 64)])
def test_compare_shows_before_and_after(clip, tmp_path, layout, width):
    target = tmp_path / "out.mkv"
    enhance_video(clip, target, compare=True, compare_layout=layout, codec="ffv1")
    with av.open(str(clip)) as before, av.open(str(target)) as after:
        old = next(before.decode(video=0)).to_ndarray(format="gray")
        new = next(after.decode(video=0)).to_ndarray(format="gray")
    assert new.shape == (48, width)
    half = width // 2
    assert np.array_equal(new[:, : half - 4], old[:, : half - 4])
    assert new[:, half + 4 :].mean() > 1.2 * old[:, -(width - half - 4) :].mean()


def test_start_and_end_choose_frames_by_time(clip, tmp_path):
    target = tmp_path / "out.mkv"
    report = enhance_video(clip, target, start="0.2", end="0.5")
    wanted = [t for t in video_times(clip) if Fraction(1, 5) <= t < Fraction(1, 2)]
    assert report.frames["out"] == len(wanted)
    times = video_times(target)
    assert [t - times[0] for t in times] == pytest.approx([float(t - wanted[0]) for t in wanted], abs=0.001)


def test_a_stretch_without_frames_is_an_error(clip, tmp_path):
    with pytest.raises(MediaError, match="has no frames from 100 s"):
        enhance_video(clip, tmp_path / "out.mp4", start=100)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_from_timestamps(clip, tmp_path):
    seen = []
    enhance_video(clip, tmp_path / "out.mp4", progress=seen.append)
    assert seen[-1].phase == "join"
    assert seen[-1].frames == 20
    assert seen[-1].total == pytest.approx(0.8, abs=0.05)
    assert seen[-1].done == pytest.approx(0.76, abs=0.01)
    assert [m.done for m in seen] == sorted(m.done for m in seen)
    assert 0.9 < seen[-1].fraction <= 1


class Broken(Exception):
    """An error that nobody foresaw."""


@pytest.mark.parametrize("where", ["decode", "enhance", "encode", "journal"])
@pytest.mark.parametrize("after", [0, 7])
def test_an_error_in_any_stage_surfaces_once_and_leaves_nothing(clip, tmp_path, monkeypatch, where, after):
    calls = 0

    def failing(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > after:
                raise Broken(where)
            return real(*args, **kwargs)

        return call

    if where == "decode":
        from streamlight.media import Source

        real = Source.frames

        def frames(self):
            for frame in real(self):
                failing(int)()
                yield frame

        monkeypatch.setattr(Source, "frames", frames)
    elif where == "enhance":
        build = segment_run.SegmentRun._enhance

        def broken_enhance(self, items):
            for frame in build(self, items):
                failing(int)()
                yield frame

        monkeypatch.setattr(segment_run.SegmentRun, "_enhance", broken_enhance)
    elif where == "encode":
        monkeypatch.setattr(segment_run.SegmentWriter, "write", failing(segment_run.SegmentWriter.write))
    else:
        from streamlight.pipelines.journal import Journal

        monkeypatch.setattr(Journal, "_append", failing(Journal._append))
        if after:
            return  # fewer appends than that
    with pytest.raises(Broken, match=where):
        enhance_video(clip, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
    assert children() == []


def test_finished_segments_survive_an_error(clip, tmp_path, monkeypatch):
    target = tmp_path / "out.mp4"
    real = segment_run.SegmentWriter.write

    def write(self, frame):
        if frame.index == 12:
            raise MediaError("no space left")
        real(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(segment_run.SegmentWriter, "write", write)
        with pytest.raises(MediaError, match="no space left"):
            enhance_video(clip, target, segment_frames=5)
    names = sorted(entry.name for entry in (tmp_path / "out.mp4.streamlight").iterdir())
    assert names == ["checkpoint-000001.npz", "journal.jsonl", "lock", "segment-000000.seg", "segment-000001.seg"]
    assert enhance_video(clip, target, segment_frames=5, resume=True).frames["resumed"] == 10


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_file_that_cannot_grow_is_one_clear_line(tmp_path):
    """A limit of the file size stands in for a full disk: writing fails in the same place."""
    clip = make_clip(tmp_path / "big.mp4", frames=40, size=(320, 240))
    folder = tmp_path / "full"
    folder.mkdir()
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "from streamlight.cli import main\n"
        f"main(['enhance', {str(clip)!r}, '-o', {str(folder / 'out.mkv')!r}, '--codec', 'ffv1', '--strength', '0'])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1, run.stderr
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert "too large" in run.stderr
    assert list(folder.iterdir()) == []


def test_images(photo, tmp_path):
    target = tmp_path / "bright.png"
    report = enhance_video(photo, target)
    assert report.status == "done"
    assert report.frames == {"in": 1, "out": 1, "damaged": 0}
    assert mean_luma(target) > 1.2 * mean_luma(photo)
    with pytest.raises(MediaError, match="--overwrite"):
        enhance_video(photo, target)
    assert list(tmp_path.iterdir()) == [target]


def test_a_jpeg_that_ends_too_early_is_counted_as_damaged(tmp_path):
    rng = np.random.default_rng(0)
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    assert cv2.imwrite(str(whole), rng.integers(0, 60, (48, 64, 3), dtype=np.uint8))
    cut.write_bytes(whole.read_bytes()[:-500])
    damaged = [enhance_video(p, tmp_path / f"{p.stem}.png").frames["damaged"] for p in (whole, cut)]
    assert damaged == [0, 1]


def test_images_stay_images_and_videos_videos(clip, photo, tmp_path):
    with pytest.raises(ConfigError, match=r"is an image, but out\.mp4 would be a video"):
        enhance_video(photo, tmp_path / "out.mp4")
    with pytest.raises(ConfigError, match=r"is a video, but out\.png would be an image"):
        enhance_video(clip, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_bad_file(clip, tmp_path):
    source, target = tmp_path / "in", tmp_path / "a" / "b" / "out"
    source.mkdir()
    shutil.copy(clip, source / "one.mp4")
    shutil.copy(clip, source / "three.mov")
    write_photo(source / "photo.png")
    (source / "bad.mp4").write_text("not a video")
    (source / "notes.txt").write_text("no media")
    told = []
    reports = enhance_many([source], target, finished=lambda job, report, error: told.append((job, error)))
    assert {Path(r.input).name: r.status for r in reports} == {
        "bad.mp4": "failed",
        "one.mp4": "done",
        "photo.png": "done",
        "three.mov": "done",
    }
    assert "bad.mp4" in next(r.error for r in reports if r.status == "failed")
    assert [type(error) for _, error in told if error] == [MediaError]
    assert sorted(p.name for p in target.iterdir()) == ["one.mp4", "photo.png", "three.mov"]
    again = enhance_many([source], target, config=load_config(values={"resume": True}))
    assert sorted(r.status for r in again) == ["already-done", "already-done", "already-done", "failed"]


def test_a_batch_that_fails_leaves_no_folder(tmp_path):
    reports = enhance_many([tmp_path / "no.mp4", tmp_path / "no2.mp4"], tmp_path / "a" / "b")
    assert [r.status for r in reports] == ["failed", "failed"]
    assert list(tmp_path.iterdir()) == []


def test_plans(tmp_path, clip, photo):
    both = tmp_path / "both"
    both.mkdir()
    for name in ("a.wmv", "b.mp4", "c.ppm", "d.jpg"):
        (both / name).write_bytes(b"x")
    plan = plan_jobs([both], tmp_path / "out")
    assert [job.destination.name for job in plan.jobs] == ["a.mkv", "b.mp4", "c.png", "d.jpg"]
    assert [bool(job.remark) for job in plan.jobs] == [True, False, True, False]
    assert plan_jobs([clip], tmp_path).jobs[0].destination == tmp_path / clip.name
    assert plan_jobs([clip], f"{tmp_path}/new/").jobs[0].destination == tmp_path / "new" / clip.name
    assert plan_jobs([clip], tmp_path / "x.mkv").jobs[0].destination == tmp_path / "x.mkv"
    with pytest.raises(ConfigError, match="would both be written"):
        plan_jobs([clip, clip], tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        plan_jobs([clip, photo], clip)
    with pytest.raises(ConfigError, match="no input"):
        plan_jobs([], tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="read only once"):
        enhance_video(tmp_path / "pipe.mp4", tmp_path / "out.mp4")


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_planes(turns):
    luma = np.arange(8, dtype=np.uint8).reshape(2, 4)
    chroma = np.arange(4, dtype=np.uint8).reshape(2, 2)
    frame = Frame((luma, chroma, chroma), ColorSpec(chroma="422"), 0, Fraction(1, 25))
    turn_frame(frame, turns)
    assert np.array_equal(frame.planes[0], np.rot90(luma, turns))
    assert frame.color.chroma == ("440" if turns % 2 else "422")
    assert all(plane.flags.c_contiguous for plane in frame.planes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strenght": 1}, "did you mean 'strength'"),
        ({"model": "retinexx"}, "unknown model 'retinexx'; did you mean 'retinex'"),
        ({"codec": "prores"}, "cannot hold prores"),
        ({"quality": 60}, "takes 0 to 51"),
        ({"encoder_preset": "quick"}, "libx264 takes"),
        ({"device": "cuda:77"}, "cuda:77"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(clip, tmp_path, options, says):
    with pytest.raises(StreamlightError, match=says):
        enhance_video(clip, tmp_path / "out.mp4", **options)
    assert list(tmp_path.iterdir()) == []
