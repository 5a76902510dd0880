"""Drawing, and the observer that pipelines run."""

from __future__ import annotations

import numpy as np
import pytest

from streamlight.detect import Detection, DetectionEvent, Observer, draw_boxes
from streamlight.detect.draw import color_of
from streamlight.detect.picture import small_rgb, ycbcr_of
from streamlight.media.frame import ColorSpec, Frame
from tests.detect.scenes import blank

SPECS = [ColorSpec(), ColorSpec(bit_depth=10, chroma="422"), ColorSpec(chroma="444", range="full")]


@pytest.mark.parametrize("spec", [*SPECS, ColorSpec(chroma="400"), ColorSpec(chroma="410")])
def test_boxes_are_drawn_in_the_color_of_their_class(spec):
    frame = blank(160, 120, spec)
    before = tuple(plane.copy() for plane in frame.planes)
    for plane in frame.planes:
        plane.flags.writeable = False
    codes = ycbcr_of(color_of(3), spec)
    assert draw_boxes(frame, [Detection("car", 3, 0.5, (40.0, 40.0, 120.0, 100.0))]) is frame
    luma = frame.planes[0]
    assert luma[70, 40] == luma[70, 119] == luma[99, 80] == codes[0]
    assert luma[70, 80] == before[0][70, 80], "the inside stays"
    assert luma[110, 150] == before[0][110, 150], "the outside stays"
    x, y = spec.chroma_shift
    for number in range(1, len(frame.planes)):
        assert frame.planes[number][70 >> y, 40 >> x] == codes[number]
        assert frame.planes[number].dtype == before[number].dtype
    assert (luma[20:40, 40:90] != before[0][20:40, 40:90]).any(), "the label above the box"


def test_boxes_at_and_over_the_edges():
    frame = blank(64, 48, SPECS[0])
    boxes = [(0.0, 0.0, 64.0, 48.0), (-5.0, -5.0, 3.0, 3.0), (60.0, 44.0, 99.0, 99.0), (10.0, 10.0, 10.2, 10.2)]
    draw_boxes(frame, [Detection("a long name of something", n, 1.0, box) for n, box in enumerate(boxes)])
    assert [plane.shape for plane in frame.planes] == [(48, 64), (24, 32), (24, 32)]


def test_without_boxes_the_planes_stay_the_same_objects():
    frame = blank(64, 48, SPECS[0])
    planes = frame.planes
    assert draw_boxes(frame, []).planes is planes


@pytest.mark.parametrize("rgb", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.2, 0.7, 0.4)])
@pytest.mark.parametrize("spec", SPECS)
def test_colors_there_and_back(spec, rgb):
    frame = blank(32, 32, spec)
    for plane, code in zip(frame.planes, ycbcr_of(rgb, spec), strict=True):
        plane[:] = code
    assert small_rgb(frame, (16, 16))[8, 8] == pytest.approx(rgb, abs=0.012)


class Bright:
    """Finds the picture when it is bright."""

    names = ("bright",)

    def __init__(self) -> None:
        self.cameras: list[str] = []
        self.forgotten: list[str] = []

    def __call__(self, frame: Frame, *, camera: str = "") -> list[Detection]:
        self.cameras.append(camera)
        box = (0.0, 0.0, float(frame.width), float(frame.height))
        return [Detection("bright", 0, 0.9, box)] if frame.planes[0][24, 32] > 128 else []

    def describe(self):
        return {"kind": "test", "fallbacks": []}

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def close(self) -> None:
        pass


class Notebook:
    """A sink that writes down."""

    name = "notebook"

    def __init__(self) -> None:
        self.events: list[DetectionEvent] = []

    @property
    def stats(self):
        from streamlight.detect import SinkStats

        return SinkStats(emitted=len(self.events), written=len(self.events))

    def emit(self, event: DetectionEvent, *, timeout: float = 0.0) -> bool:
        self.events.append(event)
        return True

    def close(self, timeout: float = 5.0) -> None:
        pass


def pass_by(observer: Observer, count: int = 6) -> list[Frame]:
    """Dark frames that are made bright, ten a second."""
    passed = []
    for index in range(count):
        frame = blank(64, 48, SPECS[0], index=3 * index)
        frame.notes["wall_clock"] = 100.0 + index
        observer.before(frame, camera="yard")
        frame.planes = blank(64, 48, SPECS[0], grey=0.9).planes
        observer.after(frame, camera="yard")
        passed.append(frame)
    return passed


@pytest.mark.parametrize(
    ("on", "seen", "told"),
    [("raw", {"raw": 6}, 0), ("enhanced", {"enhanced": 6}, 6), ("both", {"raw": 6, "enhanced": 6}, 6)],
)
def test_each_picture_is_looked_at_as_asked(on, seen, told):
    sink, detector = Notebook(), Bright()
    observer = Observer(detector, [sink], on=on)
    pass_by(observer)
    assert observer.looks == seen
    assert len(sink.events) == told
    assert {camera.partition("/")[2] for camera in detector.cameras} == set(seen), "each picture is its own stream"
    for event in sink.events:
        assert (event.camera, event.on, event.wall_clock) == ("yard", "enhanced", 100.0 + event.index / 3)
        assert event.pts == event.index * 3000
    assert observer.to_json()["found"] == {picture: told if picture == "enhanced" else 0 for picture in seen}


def test_empty_frames_are_told_if_asked():
    sink = Notebook()
    pass_by(Observer(Bright(), [sink], on="both", empty=True))
    assert [event.on for event in sink.events] == ["raw", "enhanced"] * 6
    assert [len(event.detections) for event in sink.events] == [0, 1] * 6


def test_between_two_looks_the_last_boxes_are_drawn():
    observer = Observer(Bright(), interval=0.3, draw=True)
    passed = pass_by(observer)
    assert observer.looks == {"enhanced": 2}
    plain = blank(64, 48, SPECS[0], grey=0.9).planes[0]
    assert all((frame.planes[0] != plain).any() for frame in passed)


def test_what_is_found_in_the_raw_picture_is_drawn_if_only_that_is_looked_at():
    observer = Observer(Bright(), on="raw", draw=True)
    frame = blank(64, 48, SPECS[0], grey=0.9)
    observer.before(frame, camera="yard")
    assert frame.planes[0].min() == frame.planes[0].max(), "not before it is enhanced"
    observer.after(frame, camera="yard")
    assert frame.planes[0].min() < frame.planes[0].max()


def test_a_camera_is_forgotten():
    detector = Bright()
    observer = Observer(detector, interval=1000.0)
    pass_by(observer, 2)
    assert observer.looks == {"enhanced": 1}
    observer.forget("yard")
    pass_by(observer, 1)
    assert observer.looks == {"enhanced": 2}
    assert detector.forgotten == ["yard/raw", "yard/enhanced"]


def test_time_that_runs_back_is_looked_at():
    observer = Observer(Bright(), interval=1000.0)
    pass_by(observer, 3)
    frame = blank(64, 48, SPECS[0], index=-3)
    observer.before(frame, camera="yard")
    assert observer.after(frame, camera="yard") is not None


def test_importing_detect_loads_nothing_heavy():
    import subprocess
    import sys

    heavy = ("cv2", "onnxruntime", "torch", "paho")
    code = f"import sys, streamlight.detect; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_labels_keep_their_colors_apart():
    colors = np.array([color_of(number) for number in range(8)])
    gaps = np.abs(colors[:, None] - colors[None]).max(2) + np.eye(8)
    assert gaps.min() > 0.1
