"""Recording: what is in the files, how they are named, and that they play whatever ended the run."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from streamlight.errors import ConfigError
from streamlight.live import DeliveryEvent, Recorder, RecordSettings
from streamlight.live.naming import claim, recover
from streamlight.live.ring import FrameShape
from streamlight.media import ColorSpec, Frame, open_source
from tests.live.test_publish import BASE, adds_up, children, picture

QUICK = RecordSettings(preset="ultrafast", segment_seconds=None, key_interval=0.5)


def record(pattern: Path, frames: range, settings: RecordSettings = QUICK, **options: object) -> Recorder:
    with Recorder(pattern, settings=settings, **options) as recorder:  # type: ignore[arg-type]
        for index in frames:
            assert recorder.offer(picture(index), wait=20)
    return recorder


def packets(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
def test_a_recording_holds_every_frame_at_its_time(suffix: str, tmp_path: Path) -> None:
    recorder = record(tmp_path / f"night.{suffix}", range(10, 55), metadata={"comment": "yard"})
    [path] = tmp_path.iterdir()
    assert path.name == f"night.{suffix}"
    with open_source(path) as source:
        frames = list(source.frames())
        tags = source.info.color.tags
    assert tags == (1, 1, 1, 1)
    steps = {round((after.seconds - before.seconds) * 1000) for before, after in pairwise(frames)}
    assert steps <= {33, 34}
    assert len(frames) == 45
    for index, frame in enumerate(frames, 10):
        assert abs(np.median(frame.planes[0]) - (40 + index)) <= 2
    keys = [index for index, packet in enumerate(packets(path)) if packet.is_keyframe]
    assert keys == [0, 15, 30]
    assert recorder.stats.written == 45
    assert recorder.stats.files == 1
    assert recorder.stats.last_file == str(path)


def test_a_new_file_begins_when_one_is_long_enough(tmp_path: Path) -> None:
    settings = RecordSettings(preset="ultrafast", segment_seconds=1.0)
    events: list[DeliveryEvent] = []
    recorder = record(
        tmp_path / "%Y" / "{camera}.mp4", range(75), settings, camera="front/door", on_change=events.append
    )
    folder = tmp_path / time.strftime("%Y")
    names = ["front_door.mp4", "front_door-2.mp4", "front_door-3.mp4"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [len(packets(folder / name)) for name in names] == [30, 30, 15]
    assert [Path(event.path).name for event in events if event.kind == "file" and event.path] == names
    assert recorder.stats.files == 3


def test_a_new_file_begins_when_one_is_large_enough(tmp_path: Path) -> None:
    settings = RecordSettings(preset="ultrafast", segment_seconds=None, segment_megabytes=0.1)
    with Recorder(tmp_path / "x.mp4", settings=settings) as recorder:
        for index in range(30):
            recorder.offer(picture(index, (160, 120), noise=True), wait=20)
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert len(sizes) > 2
    assert all(90_000 < size < 160_000 for size in sizes[1:])
    assert sum(len(packets(path)) for path in tmp_path.iterdir()) == 30


def test_the_name_comes_from_the_camera_s_clock(tmp_path: Path) -> None:
    moment = time.mktime((2026, 11, 20, 23, 59, 58, 0, 0, -1))
    with Recorder(tmp_path / "%Y-%m-%d_%H-%M-%S.mp4", settings=QUICK) as recorder:
        frame = picture(0)
        frame.notes["wall_clock"] = moment
        recorder.offer(frame, wait=20)
    [path] = tmp_path.iterdir()
    assert path.name == "2026-11-20_23-59-58.mp4"
    with av.open(str(path)) as container:
        written = container.metadata["creation_time"]
    assert written.startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    precious = tmp_path / "a.mp4"
    precious.write_text("precious")
    record(precious, range(5))
    record(precious, range(7))
    assert precious.read_text() == "precious"
    assert [len(packets(tmp_path / f"a-{number}.mp4")) for number in (2, 3)] == [5, 7]


def test_another_size_begins_another_file(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", settings=QUICK) as recorder:
        for index in range(20):
            recorder.offer(picture(index, (64, 48) if index < 12 else (98, 62)), wait=20)
    assert recorder.stats.written == 20
    counts = [(len(found := packets(tmp_path / name)), found[0].stream.width) for name in ("a.mp4", "a-2.mp4")]
    assert counts == [(12, 64), (8, 98)]


@pytest.mark.parametrize(
    ("size", "color"),
    [
        ((65, 49), ColorSpec(tags=(5, 1, 6, 6), matrix="bt470bg")),
        ((64, 48), ColorSpec(chroma="400", range="full", tags=(2, 2, 2, 2))),
        ((64, 48), ColorSpec(chroma="422", bit_depth=10, tags=(1, 2, 1, 1), range="full")),
    ],
    ids=["odd", "grey", "deep"],
)
def test_other_pictures_than_the_usual(size: tuple[int, int], color: ColorSpec, tmp_path: Path) -> None:
    shape = FrameShape(*size, color)
    luma, neutral = color.peak // 3, 1 << color.bit_depth - 1
    planes = [np.full(lay, neutral if number else luma, color.dtype) for number, lay in enumerate(shape.planes())]
    with Recorder(tmp_path / "a.mkv", settings=QUICK) as recorder:
        for index in range(3):
            assert recorder.offer(Frame(tuple(planes), color, index * 3000, BASE), wait=20)
    with open_source(tmp_path / "a.mkv") as source:
        frames = list(source.frames())
    assert len(frames) == 3
    found = frames[0].color
    assert (found.bit_depth, found.range) == (color.bit_depth, color.range)
    assert abs(np.median(frames[0].planes[0]) - luma) <= 2
    assert abs(np.median(frames[0].planes[1]) - neutral) <= 2


RECORDING = """
import os, sys, time
from tests.live.test_publish import children, picture
from tests.live.test_recorder import QUICK, Recorder
recorder = Recorder(sys.argv[1], settings=QUICK)
for index in range(40):
    assert recorder.offer(picture(index), wait=20)
while recorder.stats.waiting:
    time.sleep(0.01)
print(*children(), flush=True)
"""


def run_recording(code: str, path: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", RECORDING + code, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_killed_parent_s_recording_is_finished(tmp_path: Path) -> None:
    process, child = run_recording("time.sleep(60)", tmp_path / "a.mp4")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 15
    while not (tmp_path / "a.mp4").exists() or Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(packets(tmp_path / "a.mp4")) == 40
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_the_group_s_sigterm_leaves_the_file_to_the_parent(tmp_path: Path) -> None:
    process, child = run_recording("sys.stdin.readline()\nrecorder.close()", tmp_path / "a.mp4")
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(child, number)
    time.sleep(0.2)
    assert not (tmp_path / "a.mp4").exists()
    process.communicate("go on\n", timeout=20)
    assert process.returncode == 0
    assert len(packets(tmp_path / "a.mp4")) == 40


def test_what_was_killed_plays_and_gets_its_name_from_the_next(tmp_path: Path) -> None:
    process, child = run_recording("os.kill(os.getpid(), 19)", tmp_path / "a.mp4")
    os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate()
    [left] = tmp_path.iterdir()
    assert left.name == ".a.mp4.recording"
    assert len(packets(left)) == 30  # one key-frame interval of 15 frames was not complete
    recorder = record(tmp_path / "b.mp4", range(5))
    assert recorder.stats.recovered == 1
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]
    assert len(packets(tmp_path / "a.mp4")) == 30


def test_a_dead_encoder_s_file_is_found_by_its_successor(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", settings=QUICK) as recorder:
        for index in range(40):
            recorder.offer(picture(index), wait=20)
        while recorder.stats.waiting:
            time.sleep(0.01)
        os.kill(children()[0], signal.SIGKILL)
        while recorder.stats.fault is None:
            time.sleep(0.01)
        for index in range(40, 50):
            assert recorder.offer(picture(index), wait=20)
    stats = recorder.stats
    assert adds_up(stats)
    assert (stats.written, stats.restarts, stats.recovered, stats.files) == (50, 1, 1, 1)
    assert sorted(len(packets(path)) for path in tmp_path.iterdir()) == [10, 30]


def test_a_disk_that_takes_no_more_is_named_and_what_it_took_is_kept(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", settings=QUICK) as recorder:
        recorder.offer(picture(0, (160, 120), noise=True), wait=20)
        resource.prlimit(children()[0], resource.RLIMIT_FSIZE, (400_000, 400_000))
        index, deadline = 1, time.monotonic() + 30
        while recorder.stats.fault is None:
            assert time.monotonic() < deadline
            recorder.offer(picture(index, (160, 120), noise=True), wait=0.1)
            index += 1
        assert "too large" in recorder.stats.fault.message
        written = recorder.stats.written
        while recorder.stats.written <= written:
            assert time.monotonic() < deadline
            recorder.offer(picture(index, (160, 120), noise=True), wait=20)
            index += 1
    assert adds_up(recorder.stats)
    assert all(len(packets(path)) > 0 for path in tmp_path.iterdir())
    assert len(packets(tmp_path / "a.mp4")) >= 15
    assert not list(tmp_path.glob(".*"))


def test_leftovers_without_a_picture_are_removed(tmp_path: Path) -> None:
    for size, name in ((0, "a"), (1000, "b"), (100_000, "c")):
        (tmp_path / f".{name}.mp4.recording").write_bytes(bytes(size))
    assert recover(tmp_path) == []
    assert os.listdir(tmp_path) == [".c.mp4.recording"]


def test_after_an_error_the_file_is_saved(tmp_path: Path) -> None:
    """Frames that no encoder takes: what came before them is finished and named."""
    with Recorder(tmp_path / "a.mp4", settings=QUICK) as recorder:
        for index in range(7):
            recorder.offer(picture(index), wait=20)
        recorder.offer(picture(7, (20_000, 2)), wait=20)
        deadline = time.monotonic() + 20
        while recorder.stats.fault is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert recorder.offer(picture(8), wait=20)
    assert adds_up(recorder.stats)
    assert recorder.stats.dropped == {"fault": 1}
    assert [len(packets(tmp_path / name)) for name in ("a.mp4", "a-2.mp4")] == [7, 1]


def test_files_that_others_write_are_left_alone(tmp_path: Path) -> None:
    other = claim(str(tmp_path / "a.mp4"), 0.0)
    other.partial.write_bytes(b"growing")
    assert recover(tmp_path) == []
    second = claim(str(tmp_path / "a.mp4"), 0.0)
    assert second.path.name == "a-2.mp4"
    assert other.publish().name == "a.mp4"


def test_a_folder_that_cannot_be_made_is_named_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.write_text("a file where a folder should be")
    with Recorder(folder / "a.mp4", settings=QUICK) as recorder:
        deadline = time.monotonic() + 20
        while recorder.stats.fault is None:
            assert time.monotonic() < deadline
            recorder.offer(picture(0))
            time.sleep(0.02)
        fault = recorder.stats.fault
        assert str(folder) in fault.message
        assert not fault.permanent
        folder.unlink()
        index = 1
        while recorder.stats.written < 3:
            assert time.monotonic() < deadline
            recorder.offer(picture(index))
            index += 1
            time.sleep(0.02)
    assert adds_up(recorder.stats)
    assert (folder / "a.mp4").exists()


def test_times_of_any_base_are_kept(tmp_path: Path) -> None:
    moments = [Fraction(index * index, 30) for index in range(12)]  # pauses that grow
    with Recorder(tmp_path / "a.mp4", settings=QUICK) as recorder:
        for moment in moments:
            frame = picture(0)
            frame.pts, frame.time_base = int((moment + 5) * 3000), Fraction(1, 3000)
            recorder.offer(frame, wait=20)
    times = [packet.pts * packet.time_base for packet in packets(tmp_path / "a.mp4")]
    assert times == moments


@pytest.mark.parametrize(
    ("pattern", "settings", "word"),
    [("a.avi", {}, "mp4"), ("a", {}, "suffix"), ("a.mp4", {"segment_seconds": 0.1}, "segment_seconds")],
)
def test_what_cannot_work_is_refused_at_once(pattern: str, settings: dict[str, float], word: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(word)):
        Recorder(pattern, settings=RecordSettings(**settings))  # type: ignore[arg-type]
