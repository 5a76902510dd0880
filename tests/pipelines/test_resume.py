"""Resume: killed at any change to the file system or at any time, the result is the uninterrupted one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from streamlight.pipelines.journal import Journal, work_folder

from streamlight import ConfigError, MediaError, enhance_video
from tests.clips import make_clip, packets

REPO = Path(__file__).resolve().parents[2]

posix_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "dark.mp4", frames=23)


def interrupted(source: Path, target: Path, **options):
    """Run a job that is stopped when its first segment is closed; returns the report."""
    stop = threading.Event()
    watched = Journal.add_segment

    def add_segment(self, *args, **kwargs):
        watched(self, *args, **kwargs)
        stop.set()

    Journal.add_segment = add_segment
    try:
        return enhance_video(source, target, stop=stop, segment_frames=5, queue_frames=1, **options)
    finally:
        Journal.add_segment = watched


def drive(clip: Path, folder: Path, mode: str, count: int) -> dict:
    run = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.kill_driver", str(clip), str(folder), mode, str(count), "7"],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@posix_only
def test_killed_at_every_change_to_the_file_system(clip, tmp_path):
    result = drive(clip, tmp_path, "events", 0)
    assert result["problems"] == []
    assert result["kills"] >= 30, "the hook no longer sees what the job does"


@posix_only
def test_killed_at_random_moments(clip, tmp_path):
    result = drive(clip, tmp_path, "random", 25)
    assert result["problems"] == []
    assert result["kills"] == 25
    assert result["finished"] >= 1


def test_a_stopped_job_resumes_bit_exactly(clip, tmp_path):
    whole, parts = tmp_path / "whole.mp4", tmp_path / "parts.mp4"
    enhance_video(clip, whole, segment_frames=5)
    first = interrupted(clip, parts)
    assert first.status == "interrupted"
    assert 5 <= first.frames["out"] < 23
    assert first.frames["out"] % 5 == 0
    assert not parts.exists()
    assert work_folder(parts).is_dir()
    second = enhance_video(clip, parts, segment_frames=5, resume=True)
    assert second.status == "done"
    assert second.frames == {"in": 23, "out": 23, "damaged": 0, "resumed": first.frames["out"]}
    assert packets(parts) == packets(whole)
    assert not work_folder(parts).exists()


def test_stopped_before_the_first_segment_leaves_nothing(clip, tmp_path):
    stop = threading.Event()
    stop.set()
    report = enhance_video(clip, tmp_path / "out.mp4", stop=stop)
    assert report.status == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_job_is_not_overlooked(clip, tmp_path):
    target = tmp_path / "out.mp4"
    interrupted(clip, target)
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        enhance_video(clip, target, segment_frames=5)
    assert enhance_video(clip, target, segment_frames=5, overwrite=True).frames["resumed"] == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strength": 0.5}, "strength: was 1.0, is 0.5"),
        ({"codec": "ffv1"}, "output.codec: was auto, is ffv1"),
        ({"segment_frames": 6}, "segment_frames"),
        ({"end": "0.5"}, "input.end: was None, is 1/2"),
    ],
)
def test_other_settings_are_not_mixed(clip, tmp_path, options, named):
    target = tmp_path / "out.mkv"
    interrupted(clip, target)
    with pytest.raises(ConfigError, match=named):
        enhance_video(clip, target, resume=True, **({"segment_frames": 5} | options))
    assert enhance_video(clip, target, segment_frames=5, resume=True).status == "done"


def test_another_input_is_not_mixed(clip, tmp_path):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.write_bytes(clip.read_bytes())
    interrupted(source, target)
    make_clip(source, frames=23, seed=1)
    with pytest.raises(ConfigError, match="input"):
        enhance_video(source, target, segment_frames=5, resume=True)


def test_another_version_is_not_mixed(clip, tmp_path, monkeypatch):
    from streamlight.pipelines import identity

    target = tmp_path / "out.mp4"
    interrupted(clip, target)
    monkeypatch.setattr(identity, "versions", lambda: {"av": "99"})
    with pytest.raises(ConfigError, match=r"version of av: was .*, is 99"):
        enhance_video(clip, target, segment_frames=5, resume=True)


def test_options_that_decide_nothing_may_change(clip, tmp_path):
    target = tmp_path / "out.mp4"
    interrupted(clip, target)
    report = enhance_video(clip, target, segment_frames=5, resume=True, workers=1, queue_frames=2, max_damaged=5)
    assert report.status == "done"


def test_half_a_journal_line_is_cut_off(clip, tmp_path):
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    enhance_video(clip, whole, segment_frames=5)
    interrupted(clip, target)
    with open(work_folder(target) / "journal.jsonl", "ab") as journal:
        journal.write(b'{"record": "segm')
    assert enhance_video(clip, target, segment_frames=5, resume=True).status == "done"
    assert packets(target) == packets(whole)


def test_a_damaged_journal_or_segment_is_refused(clip, tmp_path):
    target = tmp_path / "out.mp4"
    interrupted(clip, target)
    segment = work_folder(target) / "segment-000000.seg"
    content = segment.read_bytes()
    segment.write_bytes(content[:-1])
    with pytest.raises(MediaError, match=r"segment-000000\.seg.*--overwrite"):
        enhance_video(clip, target, segment_frames=5, resume=True)
    segment.write_bytes(content)
    journal = work_folder(target) / "journal.jsonl"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    with pytest.raises(ConfigError, match=r"damaged.*--overwrite"):
        enhance_video(clip, target, segment_frames=5, resume=True)
    assert enhance_video(clip, target, segment_frames=5, overwrite=True).status == "done"


def test_resume_with_nothing_to_resume(clip, tmp_path):
    target = tmp_path / "out.mp4"
    first = enhance_video(clip, target, resume=True)
    assert first.status == "done"
    assert [w.code for w in first.warnings] == ["nothing-to-resume"]
    before = target.read_bytes()
    second = enhance_video(clip, target, resume=True)
    assert second.status == "already-done"
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_two_runs_on_one_output_are_refused(clip, tmp_path):
    target = tmp_path / "out.mp4"
    holder = Journal(target)
    holder.acquire()
    try:
        with pytest.raises(MediaError, match=rf"another run \(process {os.getpid()}\)"):
            enhance_video(clip, target)
        assert work_folder(target).is_dir(), "the loser must not remove the winner's folder"
    finally:
        holder.release()
    assert enhance_video(clip, target).status == "done"


def test_a_foreign_file_in_the_work_folder_stays(clip, tmp_path):
    target = tmp_path / "out.mp4"
    work_folder(target).mkdir()
    (work_folder(target) / "mine.txt").write_text("keep")
    assert enhance_video(clip, target).status == "done"
    assert [f.name for f in work_folder(target).iterdir()] == ["mine.txt"]


def test_a_file_in_the_way_of_the_work_folder(clip, tmp_path):
    target = tmp_path / "out.mp4"
    work_folder(target).write_text("mine")
    with pytest.raises(MediaError, match="in the way"):
        enhance_video(clip, target)
    assert work_folder(target).read_text() == "mine"
