"""``streamlight evaluate detection``: the dark costs boxes, and brightening brings them back."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from streamlight.cli._main import run
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.contenders import parse_contender
from streamlight.evaluation.detection import DetectionSettings, evaluate_detection
from streamlight.media import EncodeSettings, Frame
from streamlight.media.clips import write_clip
from streamlight.media.frame import ColorSpec
from tests.detect import graphs
from tests.detect.scenes import blank, paint

pytest.importorskip("onnxruntime")

FRAMES, SQUARE = 6, (32, 0, 64, 32)


def square(index: int, light: float, color: ColorSpec) -> Frame:
    frame = blank(128, 64, color, index=3 * index, grey=0.25 * light)
    return paint(frame, SQUARE if index % 2 else (64, 32, 96, 64), (light, 0.0, 0.0))


def clip(path: Path, light: float) -> Path:
    frames = [replace(square(index, light, ColorSpec(matrix="smpte170m")), index=index) for index in range(FRAMES)]
    write_clip(path, frames, settings=EncodeSettings(codec="ffv1"), rate=Fraction(10))
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[Path, Path, DetectionSettings]:
    folder = tmp_path_factory.mktemp("detection")
    detector = graphs.yolov8(folder / "m.onnx")
    settings = DetectionSettings(str(detector), frames=FRAMES, warm_up=1)
    return clip(folder / "clean.mkv", 1.0), clip(folder / "dark.mkv", 0.12), settings


def test_against_the_clean_clip(parts):
    clean, dark, settings = parts
    retinex = parse_contender("retinex")
    report = evaluate_detection([retinex], clips=[dark], settings=settings, reference=clean, command="streamlight …")
    (case,) = report.cases
    assert list(case.rows) == ["input", "gamma", "retinex"]
    assert (case.frames, case.size) == (FRAMES - 1, "128x64")
    assert case.rows["input"].boxes == FRAMES - 1
    assert case.rows["input"].recall == 0.0, "a dark square scores 0.12"
    assert case.rows["gamma"].recall == 1.0
    assert 0.0 < case.luma < 20.0
    assert set(case.by_label["gamma"]) == {"red"}
    page, plain = report.markdown(), json.loads(json.dumps(report.to_dict()))
    assert "| gamma | 1.000 |" in page
    assert plain["cases"][0]["rows"]["input"]["recall"] == 0.0
    assert plain["detector"]["layout"] == "yolov8"


def test_against_labels(parts, tmp_path):
    _, dark, settings = parts
    lines = [
        {"index": 1, "detections": [{"label": "RED", "box": SQUARE}, {"label": "cat", "box": [0, 0, 9, 9]}]},
        {"index": 2, "detections": []},
        {"index": 0, "detections": [{"label": "red", "box": SQUARE}]},
    ]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = evaluate_detection([], clips=[dark], settings=settings, labels=labels)
    (case,) = report.cases
    assert case.frames == 2, "frame 0 warms up, the others are not labelled"
    assert report.unknown == {"cat": 1}
    gamma = case.rows["gamma"]
    assert (gamma.boxes, gamma.recall, gamma.false) == (1, 1.0, 1), "on frame 2 the label says that nothing is there"
    only = evaluate_detection([], clips=[dark], settings=replace(settings, labels=("blue",)), labels=labels)
    assert only.cases[0].rows["gamma"].recall is None


def test_clips_made_dark(parts, tmp_path):
    clean, _, settings = parts
    report = evaluate_detection([], clips=[clean], settings=settings, exposures=[1.0, 1 / 200], cache=tmp_path)
    bright, dark = report.cases
    assert bright.luma > 3 * dark.luma
    assert bright.rows["input"].recall == 1.0
    assert dark.rows["input"].recall == 0.0
    assert "1/200 of the light" in dark.name
    assert any(tmp_path.iterdir())


def test_motion_needs_no_file(tmp_path):
    color = ColorSpec(matrix="smpte170m")

    def frames():
        for index in range(30):
            frame = blank(128, 64, color, index=3 * index, grey=0.4)
            yield replace(paint(frame, (4 * index, 16, 4 * index + 16, 32), (1.0, 1.0, 1.0)), index=index)

    write_clip(tmp_path / "a.mkv", frames(), settings=EncodeSettings(codec="ffv1"), rate=Fraction(10))
    settings = DetectionSettings("motion", frames=30, warm_up=15)
    report = evaluate_detection([], clips=[tmp_path / "a.mkv"], settings=settings, reference=tmp_path / "a.mkv")
    (case,) = report.cases
    assert case.rows["input"].boxes >= 10
    assert case.rows["input"].recall == 1.0


def test_wrong_use(parts, tmp_path):
    clean, dark, settings = parts
    for keywords in ({}, {"reference": clean, "exposures": [0.1]}):
        with pytest.raises(ConfigError, match="what is true"):
            evaluate_detection([], clips=[dark], settings=settings, **keywords)
    with pytest.raises(ConfigError, match="nothing to measure"):
        evaluate_detection([], clips=[], settings=settings, reference=clean)
    with pytest.raises(ConfigError, match="one dark clip, got 2"):
        evaluate_detection([], clips=[dark, dark], settings=settings, reference=clean)
    with pytest.raises(ConfigError, match="none would be measured"):
        evaluate_detection([], clips=[dark], settings=replace(settings, warm_up=FRAMES), reference=clean)
    with pytest.raises(MediaError, match="6 frames, 9 are needed"):
        evaluate_detection([], clips=[dark], settings=replace(settings, frames=9), reference=clean)
    with pytest.raises(ConfigError, match="different names"):
        evaluate_detection([parse_contender("retinex")] * 2, clips=[dark], settings=settings, reference=clean)
    (tmp_path / "l.jsonl").write_text('{"index": 99, "detections": []}\n')
    with pytest.raises(MediaError, match="none of its frames is labelled"):
        evaluate_detection([], clips=[dark], settings=settings, labels=tmp_path / "l.jsonl")


def test_on_the_command_line(parts, tmp_path, capsys):
    clean, dark, settings = parts
    command = ["evaluate", "detection", "gamma", "--clip", str(dark), "--detect", settings.detector]
    command += ["--frames", "6", "--warm-up", "1"]
    target = tmp_path / "r.json"
    assert run([*command, "--reference-clip", str(clean), "--json", str(target), "-q"]) == 0
    assert "| gamma | 1.000 |" in capsys.readouterr().out
    assert json.loads(target.read_text())["threshold"] == 0.3
    assert run(command) == 2
    assert "what is true" in capsys.readouterr().err
