"""``streamlight detect``: files in, JSON Lines out, boxes on the picture if asked for."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from streamlight.pipelines.detection import detect_files

from streamlight.cli._main import run
from streamlight.config import load_config
from streamlight.detect import CallbackSink, DetectionEvent, load_detector, open_sink
from streamlight.errors import ConfigError, MediaError
from tests.clips import make_clip, packets, video_times
from tests.detect import graphs

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A dark clip of 12 frames with sound and irregular times."""
    return make_clip(tmp_path_factory.mktemp("clip") / "dark.mp4", frames=12, rate=10)


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    """A dull red square, which a detector of red ones finds only when it is brightened."""
    path = tmp_path_factory.mktemp("clip") / "squares.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv444p"
        for index in range(5):
            rgb = np.full((64, 128, 3), 8, np.uint8)
            rgb[:32, 32:64] = (40, 0, 0)
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p")
            picture.pts = index
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
    return path


def test_events_are_those_of_the_frames(squares, tmp_path):
    got: list[DetectionEvent] = []
    sink = open_sink(got.append)
    detector = str(graphs.yolov8(tmp_path / "m.onnx"))
    config = load_config(values={"detect": detector, "detect_on": "both", "model": "retinex", "detect_threshold": 0.25})
    (report,) = detect_files([squares], config=config, sinks=[sink])
    sink.close()
    assert report.status == "done"
    assert report.detection["looks"] == {"raw": 5, "enhanced": 5}
    assert report.detection["found"] == {"raw": 0, "enhanced": 5}
    assert [(event.camera, event.index, event.on) for event in got] == [
        ("squares.mkv", index, "enhanced") for index in range(5)
    ]
    assert [event.pts * event.time_base for event in got] == video_times(squares)
    assert all(one.label == "red" for event in got for one in event.detections)
    assert report.output is None
    json.dumps(report.to_dict())


def test_with_an_output_everything_goes_along(clip, squares, tmp_path):
    config = load_config(values={"model": "retinex", "detect": str(graphs.yolov8(tmp_path / "m.onnx"))})
    (report,) = detect_files([clip], config=config, output=tmp_path / "out.mp4")
    assert report.status == "done"
    assert video_times(tmp_path / "out.mp4") == video_times(clip)
    sound = [packet[1:] for packet in packets(clip) if packet[0] == 1]
    assert [packet[1:] for packet in packets(tmp_path / "out.mp4") if packet[0] == 1] == sound
    quiet = load_config(
        values={"model": "retinex", "detect": str(tmp_path / "m.onnx"), "codec": "ffv1", "detect_threshold": 0.25}
    )
    (drawn,) = detect_files([squares], config=quiet, output=tmp_path / "drawn.mkv")
    assert drawn.detection["found"] == {"enhanced": 5}
    with av.open(str(tmp_path / "drawn.mkv")) as container:
        luma = next(container.decode(video=0)).to_ndarray(format="gray")
    assert len(set(luma[1:31, 32].tolist())) == 1, "the left edge of the box is one line"
    assert luma[16, 32] != luma[16, 40]


def test_a_bad_file_does_not_stop_the_others(squares, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    errors: list[Exception | None] = []
    config = load_config(values={"detect_on": "raw"})
    reports = detect_files(
        [tmp_path / "bad.mp4", squares], config=config, finished=lambda report, error: errors.append(error)
    )
    assert [report.status for report in reports] == ["failed", "done"]
    assert isinstance(errors[0], MediaError)
    assert errors[1] is None
    with pytest.raises(ConfigError, match="no input"):
        detect_files([])


def test_a_report_counts_the_last_events_of_its_file(squares, tmp_path):
    sink = CallbackSink(lambda event: time.sleep(0.05))
    detector = load_detector(str(graphs.yolov8(tmp_path / "m.onnx")))
    reports = detect_files([squares, squares], config=load_config(values={"model": "retinex"}), detector=detector,
                           sinks=[sink], empty=True)  # fmt: skip
    figures = [report.detection["sinks"][sink.name] for report in reports]
    assert [(one["written"], one["waiting"]) for one in figures] == [(5, 0), (10, 0)]
    sink.close()


def test_stopping_leaves_nothing_behind(tmp_path):
    clip = make_clip(tmp_path / "long.mp4", frames=60, sound=False)
    stop = threading.Event()
    config = load_config(values={"model": "retinex", "segment_frames": 2})
    (report,) = detect_files(
        [clip], config=config, output=tmp_path / "out.mp4", stop=stop, progress=lambda name, moment: stop.set()
    )
    assert report.status == "interrupted"
    assert sorted(os.listdir(tmp_path)) == ["long.mp4"]


def test_on_the_command_line(squares, tmp_path, capfd):
    detector = str(graphs.yolov8(tmp_path / "m.onnx"))
    command = ["detect", str(squares), "--detect", detector, "--model", "retinex", "--detect-threshold", "0.25"]
    assert run(command) == 0
    said = capfd.readouterr()
    assert [json.loads(line)["index"] for line in said.out.splitlines()] == [0, 1, 2, 3, 4]
    assert "5 detections on 5 enhanced frames (red 5)" in said.err
    events = tmp_path / "events.jsonl"
    assert run([*command, "--events", str(events), "--empty", "--detect-on", "both", "--json", "-", "-q"]) == 0
    report = json.loads(capfd.readouterr().out)["reports"][0]
    assert report["detection"]["sinks"][str(events)]["written"] == 10
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert [line["on"] for line in lines[:2]] == ["raw", "enhanced"]
    assert run([*command, "--events", str(events)]) == 1
    assert "exists already" in capfd.readouterr().err
    assert run([*command, "--events", str(events), "--overwrite", "-q"]) == 0
    assert len(events.read_text().splitlines()) == 5


def test_wrong_use_on_the_command_line(squares, tmp_path, capfd):
    assert run(["detect", str(squares), "--json", "-"]) == 2
    assert "cannot both go to stdout" in capfd.readouterr().err
    assert run(["detect", str(squares), "--detect", "yolo"]) == 2
    assert "'motion' or an .onnx file" in capfd.readouterr().err
    assert run(["detect", str(tmp_path / "no.mp4")]) == 1
    assert run(["detect", str(squares), "--events", str(tmp_path / "no" / "e.jsonl")]) == 1
    assert len([line for line in capfd.readouterr().err.splitlines() if line.startswith("streamlight:")]) == 2


def test_events_that_cannot_be_delivered_are_told(squares, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("streamlight.cli._detecting._LAST_EVENTS", 0.3)
    detector = str(graphs.yolov8(tmp_path / "m.onnx"))
    command = ["detect", str(squares), "--detect", detector, "--model", "retinex", "--detect-threshold", "0.25"]
    assert run([*command, "--events", "http://me:geheim@127.0.0.1:9/x", "-q"]) == 1
    said = capfd.readouterr().err
    assert "5 events were not delivered" in said
    assert "geheim" not in said
