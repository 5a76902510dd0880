"""Detectors in ONNX files: every layout finds the coloured squares where they are in the source picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamlight.detect import load_detector
from streamlight.detect.names import COCO, assumed_names, names_in_metadata, read_names
from streamlight.errors import ConfigError, DeviceError, ModelError
from streamlight.media.frame import ColorSpec, Frame
from tests.detect import graphs
from tests.detect.scenes import BLUE, RED, blank, paint

pytest.importorskip("onnxruntime")
from streamlight.detect.network import OnnxDetector

# Cells of 16 pixels on the input of 64 are 32 pixels of this picture, which fills half the input in height.
WIDTH, HEIGHT = 128, 64
SQUARE, OTHER = (32, 0, 64, 32), (96, 32, 128, 64)
SPECS = [
    ColorSpec(),
    ColorSpec(matrix="smpte170m", range="full"),
    ColorSpec(bit_depth=10, chroma="422"),
    ColorSpec(chroma="444"),
]
LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "yolox": graphs.yolox,
    "yolox decoded": lambda path: graphs.yolox(path, decoded=True),
    "yolov5": graphs.yolov5,
    "yolov8": graphs.yolov8,
    "end2end": graphs.end2end,
    "detr": lambda path: graphs.detr(path, softmax=True),
    "detr sigmoid": graphs.detr,
    "detr rf": lambda path: graphs.detr(path, rf=True),
    "rtdetr": graphs.rtdetr,
}


def scene(color: ColorSpec = SPECS[0]) -> Frame:
    return paint(paint(blank(WIDTH, HEIGHT, color), SQUARE, RED), OTHER, BLUE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_finds_what_is_there_where_it_is(tmp_path, layout):
    detector = OnnxDetector(LAYOUTS[layout](tmp_path / "m.onnx"), names=["red", "blue"])
    assert detector.describe()["layout"] == layout.split()[0]
    found = detector(scene())
    stretched = detector.describe()["layout"] in ("detr", "rtdetr")
    expected = {"red": SQUARE, "blue": OTHER}
    if stretched:  # 64 rows fill all 64: a cell is 32 pixels wide and 16 high
        expected = {"red": (32, 0, 64, 16), "blue": (96, 32, 128, 48)}
    if layout in ("end2end", "rtdetr"):
        del expected["blue"]
    assert {one.label for one in found} == set(expected)
    for name, box in expected.items():
        boxes = [one.box for one in found if one.label == name]
        assert np.abs(np.array(boxes) - np.array(box)).max(1).min() < 0.6, boxes
        assert len(boxes) == (2 if stretched else 1)
    assert all(one.label_id == {"red": 0, "blue": 1}[one.label] and one.score > 0.8 for one in found)


@pytest.mark.parametrize("spec", SPECS, ids=["bt709", "full bt601", "10 bit 422", "444"])
@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
def test_every_kind_of_planes_keeps_its_colours(tmp_path, layout, spec):
    found = OnnxDetector(LAYOUTS[layout](tmp_path / "m.onnx"), names=["red", "blue"])(scene(spec))
    assert sorted(one.label for one in found) == ["blue", "red"]
    assert all(one.score > 0.9 for one in found)


def test_grey_planes_hold_no_colours(tmp_path):
    detector = OnnxDetector(graphs.yolov8(tmp_path / "m.onnx"))
    assert detector(paint(blank(WIDTH, HEIGHT, ColorSpec(chroma="400")), SQUARE, RED)) == []


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("layout", ["yolox", "yolov8", "detr"])
def test_a_picture_that_lies_on_its_side_is_seen_upright(tmp_path, layout, turns):
    detector = OnnxDetector(LAYOUTS[layout](tmp_path / "m.onnx"), names=["red", "blue"])
    upright = scene(SPECS[3])
    planes = tuple(np.ascontiguousarray(np.rot90(plane, -turns)) for plane in upright.planes)
    lying = Frame(planes, SPECS[3], pts=0, time_base=upright.time_base, notes={"turns": turns})
    wanted, found = detector(upright), detector(lying)
    assert len(wanted) == len(found) >= 2
    for one in wanted:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        left, top, right, bottom = map(round, one.box)
        mask[top:bottom, left:right] = True
        rows, columns = np.nonzero(np.rot90(mask, -turns))
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert any(two.label == one.label and np.abs(np.array(two.box) - box).max() < 1.0 for two in found), box


def test_odd_sizes_and_boxes_inside_the_picture(tmp_path):
    detector = OnnxDetector(graphs.yolox(tmp_path / "m.onnx"), names=["red", "blue"], threshold=0.05)
    frame = paint(blank(101, 57, SPECS[0]), (0, 0, 101, 57), RED)
    found = detector(frame)
    assert found
    for one in found:
        left, top, right, bottom = one.box
        assert 0 <= left < right <= 101
        assert 0 <= top < bottom <= 57


def test_the_threshold_is_kept_and_planes_are_not_written_to(tmp_path):
    file = graphs.yolov8(tmp_path / "m.onnx")
    frame = paint(blank(WIDTH, HEIGHT, SPECS[0]), (32, 0, 64, 16), RED)  # half a cell
    for plane in frame.planes:
        plane.flags.writeable = False
    assert OnnxDetector(file, threshold=0.6)(frame) == []
    (one,) = OnnxDetector(file, threshold=0.4)(frame)
    assert 0.4 <= one.score <= 0.6


def test_of_overlapping_boxes_the_best_stays():
    from streamlight.detect.boxes import suppress

    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.3, 0.4])
    kept = suppress(boxes, scores, np.array([0, 0, 0, 1]), overlap=0.5)
    assert kept.tolist() == [1, 3, 2], "best first; another class and another place stay"


def test_a_model_of_free_size_takes_what_its_metadata_says(tmp_path):
    metadata = {"names": graphs.NAMES, "imgsz": f"[{graphs.SIDE}, {graphs.SIDE}]"}
    detector = OnnxDetector(graphs.yolov8(tmp_path / "m.onnx", metadata=metadata, size=("height", "width")))
    assert detector.describe()["input"].startswith("64x64")
    assert {one.label for one in detector(scene())} == {"red", "blue"}


def test_names(tmp_path):
    assert load_detector(graphs.yolov8(tmp_path / "a.onnx")).names == ("red", "blue")
    plain = graphs.yolov8(tmp_path / "b.onnx", metadata={})
    assert load_detector(plain).names == ("class 0", "class 1")
    (tmp_path / "names.txt").write_text("rot\n\nblau\n")
    assert load_detector(plain, names=tmp_path / "names.txt").names == ("rot", "blau")
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    with pytest.raises(ConfigError, match=r"2 classes.*3 names"):
        load_detector(plain, names=tmp_path / "three.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "red\nblue\n"),
        ("a.json", '["red", "blue"]'),
        ("b.json", '{"0": "red", "1": "blue"}'),
        ("a.yaml", "path: x\nnames:\n  0: red\n  1: blue\n"),
    ],
)
def test_files_of_names(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == ("red", "blue")


@pytest.mark.parametrize(("name", "text"), [("a.txt", "\n"), ("a.json", "{"), ("b.json", '{"x": "red"}')])
def test_files_without_names(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="class names"):
        read_names(tmp_path / name)


def test_names_in_metadata_and_assumed():
    assert names_in_metadata({"names": "{0: 'a', 1: 'b'}"}) == ("a", "b")
    assert names_in_metadata({"classes": "a, b"}) == ("a", "b")
    assert names_in_metadata({"id2label": '{"0": "a", "1": "b"}'}) == ("a", "b")
    assert names_in_metadata({"names": "{0: broken"}) is None
    assert names_in_metadata({}) is None
    assert (len(COCO), COCO[0], COCO[79]) == (80, "person", "toothbrush")
    by_category = assumed_names(91)
    assert by_category is not None
    assert (by_category[1], by_category[3], by_category[90]) == ("person", "car", "toothbrush")
    assert assumed_names(5) is None


def test_bad_files_are_told_in_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_detector(tmp_path / "no.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="cannot load it as an ONNX model"):
        load_detector(tmp_path / "bad.onnx")
    with pytest.raises(ConfigError, match=r"'motion' or an \.onnx file"):
        load_detector("yolo")
    with pytest.raises(ModelError, match="task 'segment'"):
        load_detector(graphs.yolov8(tmp_path / "seg.onnx", metadata={"task": "segment"}))


def test_a_model_that_is_no_detector(tmp_path):
    graph = graphs.Graph()
    picture = graph.input("x", (1, 3, 64, 64))
    graph.output(graph.node("ReduceMean", picture, axes=[2, 3], keepdims=0), "y", (1, 3))
    with pytest.raises(ModelError, match=r"y \(1, 3\).*no known detector"):
        load_detector(graph.write(tmp_path / "m.onnx"))
    graph = graphs.Graph()
    graph.output(graph.node("Identity", graph.input("x", (1, 5))), "y", (1, 5))
    with pytest.raises(ModelError, match="expected one picture"):
        load_detector(graph.write(tmp_path / "n.onnx"))


def test_devices(tmp_path):
    import onnxruntime

    file = graphs.yolox(tmp_path / "m.onnx")
    detector = load_detector(file, device="cpu")
    assert detector.describe()["providers"] == ["CPUExecutionProvider"]
    with pytest.raises(DeviceError, match="unknown detector device"):
        load_detector(file, device="gpu7")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DeviceError, match="no CUDA"):
            load_detector(file, device="cuda")
    detector.close()
    with pytest.raises(ModelError, match="closed"):
        detector(scene())


@pytest.mark.skipif("STREAMLIGHT_YOLOX" not in os.environ, reason="STREAMLIGHT_YOLOX names no yolox_nano.onnx")
def test_yolox_nano_on_the_yard():
    from streamlight.media import open_source

    yard = Path(__file__).resolve().parents[2] / "samples/yard.mp4"
    detector = load_detector(os.environ["STREAMLIGHT_YOLOX"])
    assert detector.describe()["layout"] == "yolox"
    with open_source(yard) as source:
        found = detector(next(source.frames()))
    assert sum(one.label == "person" for one in found) >= 2
