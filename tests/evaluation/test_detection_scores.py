"""Recall, precision and COCO's average precision, on cases that can be worked out by hand or were by others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlight.detect import Detection
from streamlight.errors import ConfigError
from streamlight.evaluation.detection_labels import read_labels
from streamlight.evaluation.detection_scores import DetectionMeter, TrueBox

# (picture, class, left, top, width, height, crowd) and (…, score): pycocotools 2.0 says AP and AP50 of these.
TRUTH = [
    [1, 2, 80, 77, 22, 47, 0], [1, 1, 101, 67, 13, 33, 0], [2, 2, 25, 80, 10, 12, 1], [2, 2, 34, 41, 39, 45, 0],
    [3, 1, 81, 0, 45, 37, 0], [3, 3, 37, 130, 30, 34, 0], [3, 3, 136, 138, 30, 28, 0], [3, 2, 32, 8, 32, 38, 0],
    [5, 1, 143, 103, 24, 38, 0], [5, 1, 144, 144, 27, 12, 0], [5, 3, 106, 119, 18, 25, 0], [5, 3, 47, 103, 18, 16, 0],
    [6, 2, 25, 113, 29, 18, 1], [7, 3, 80, 31, 45, 21, 0], [7, 2, 37, 121, 29, 42, 0],
]  # fmt: skip
FOUND = [
    [1, 2, 85, 74, 23, 46, 0.68], [1, 1, 96, 72, 18, 34, 0.048], [1, 1, 105, 64, 10, 34, 0.627],
    [1, 2, 116, 22, 117, 32, 0.759], [2, 2, 30, 79, 6, 13, 0.418], [2, 2, 28, 84, 7, 11, 0.97],
    [2, 3, 34, 45, 38, 40, 0.895], [2, 3, 49, 13, 108, 39, 0.437], [3, 1, 81, -4, 44, 34, 0.092],
    [3, 1, 78, -2, 47, 36, 0.543], [3, 1, 32, 127, 28, 33, 0.767], [3, 3, 135, 136, 30, 23, 0.314],
    [3, 3, 133, 135, 33, 23, 0.835], [3, 2, 28, 8, 35, 38, 0.155], [3, 2, 36, 13, 31, 43, 0.957],
    [3, 3, 35, 47, 17, 121, 0.816], [5, 1, 139, 106, 27, 42, 0.461], [5, 2, 141, 103, 20, 37, 0.185],
    [5, 2, 148, 149, 31, 13, 0.449], [5, 3, 109, 116, 21, 20, 0.555], [5, 2, 101, 118, 13, 23, 0.354],
    [5, 3, 50, 106, 16, 15, 0.084], [5, 3, 43, 107, 22, 20, 0.764], [6, 2, 22, 112, 26, 15, 0.259],
    [6, 2, 20, 118, 34, 16, 0.667], [6, 3, 116, 118, 54, 47, 0.697], [7, 2, 42, 121, 24, 39, 0.431],
    [7, 3, 114, 21, 38, 68, 0.174],
]  # fmt: skip
AP, AP50 = 0.1193141814181418, 0.42629262926292627

HERE = (10.0, 10.0, 50.0, 50.0)
ELSEWHERE = (100.0, 100.0, 140.0, 140.0)


def found(score: float, box: tuple[float, float, float, float] = HERE, label: str = "person") -> Detection:
    return Detection(label, 0, score, box)


def true(box: tuple[float, float, float, float] = HERE, label: str = "person", **marks: bool) -> TrueBox:
    return TrueBox(label, box, **marks)


def scores(*pictures: tuple[list[Detection], list[TrueBox]], threshold: float = 0.3):
    meter = DetectionMeter(threshold=threshold)
    for detections, truth in pictures:
        meter.add(detections, truth)
    return meter.scores()


def moved(by: float) -> tuple[float, float, float, float]:
    return (10.0 + by, 10.0, 50.0 + by, 50.0)


def test_all_right():
    result = scores(([found(0.9), found(0.8, ELSEWHERE)], [true(), true(ELSEWHERE)]))
    assert (result.recall, result.precision, result.boxes, result.found, result.false) == (1.0, 1.0, 2, 2, 0)
    assert result.ap50 == pytest.approx(1.0)
    assert result.ap == pytest.approx(1.0)


def test_all_missed_and_nothing_to_find():
    missed = scores(([], [true()]))
    assert (missed.recall, missed.precision, missed.ap50, missed.ap) == (0.0, None, 0.0, 0.0)
    empty = scores(([found(0.9)], []))
    assert (empty.recall, empty.precision, empty.ap50, empty.false) == (None, 0.0, None, 1)


def test_overlap_decides():
    # Moved by 10 of 40: overlap 30/50 = 0.6, right at 0.5, 0.55 and 0.6 of the ten overlaps.
    result = scores(([found(0.9, moved(10.0))], [true()]))
    assert result.recall == 1.0
    assert result.ap50 == pytest.approx(1.0)
    assert result.ap == pytest.approx(0.3)
    assert scores(([found(0.9, moved(14.0))], [true()])).recall == 0.0  # 26/54


def test_a_second_box_on_the_same_thing_is_wrong():
    result = scores(([found(0.9), found(0.8, moved(1.0))], [true()]))
    assert (result.recall, result.precision, result.false) == (1.0, 0.5, 1)
    assert result.ap50 == pytest.approx(1.0), "it comes after all was found"
    worse = scores(([found(0.8), found(0.9, ELSEWHERE)], [true()]))
    assert worse.ap50 == pytest.approx(0.5), "a wrong one comes first"


def test_the_operating_score_counts_for_recall_and_not_for_average_precision():
    result = scores(([found(0.2)], [true()]))
    assert (result.recall, result.precision) == (0.0, None)
    assert result.ap50 == pytest.approx(1.0)


def test_classes_are_apart_and_weigh_alike():
    meter = DetectionMeter(threshold=0.3)
    meter.add([found(0.9), found(0.9, ELSEWHERE, "car")], [true(), true(ELSEWHERE), true(ELSEWHERE, "car")])
    by_label = meter.by_label()
    assert (by_label["person"].recall, by_label["car"].recall) == (0.5, 1.0)
    assert meter.scores().recall == pytest.approx(2 / 3)
    # Half the recall of one class at full precision is 51 of the 101 points.
    assert meter.scores().ap50 == pytest.approx((51 / 101 + 1.0) / 2)
    assert scores(([found(0.9, HERE, "car")], [true()])).recall == 0.0


def test_ignored_boxes_count_neither_way():
    both = [true(), true(ELSEWHERE, ignored=True)]
    hit = scores(([found(0.9), found(0.8, ELSEWHERE)], both))
    miss = scores(([found(0.9)], both))
    for result in (hit, miss):
        assert (result.recall, result.precision, result.boxes) == (1.0, 1.0, 1)
    crowd = [true(), true((90.0, 90.0, 190.0, 190.0), crowd=True)]
    inside = [found(0.9), found(0.8, ELSEWHERE), found(0.7, (92.0, 92.0, 99.0, 99.0)), found(0.6, (0.0, 0.0, 5.0, 5.0))]
    result = scores((inside, crowd))
    assert (result.precision, result.false) == (0.5, 1), "any number of boxes inside a crowd"


def test_only_the_hundred_best_count():
    many = [found(0.5 + index / 1000, ELSEWHERE) for index in range(100)]
    assert scores(([*many, found(0.4)], [true()])).recall == 0.0
    assert scores(([*many[1:], found(0.4)], [true()])).recall == 1.0


def test_average_precision_over_two_pictures_by_hand():
    # By falling score: right, wrong, right, of 4 true boxes: precision 1 up to recall 1/4 (points 0 to 0.25: 26), then
    # 2/3 up to recall 1/2 (0.26 to 0.5: 25), then nothing.
    first = ([found(0.9), found(0.8, ELSEWHERE)], [true(), true((200.0, 0.0, 210.0, 10.0))])
    second = ([found(0.7)], [true(), true((200.0, 0.0, 210.0, 10.0))])
    assert scores(first, second).ap50 == pytest.approx((26 * 1.0 + 25 * 2 / 3) / 101)


def test_the_same_as_pycocotools():
    meter = DetectionMeter(threshold=0.3)
    for picture in range(1, 9):
        meter.add(
            [found(s, (x, y, x + w, y + h), str(c)) for p, c, x, y, w, h, s in FOUND if p == picture],
            [
                true((x, y, x + w, y + h), str(c), crowd=bool(crowd))
                for p, c, x, y, w, h, crowd in TRUTH
                if p == picture
            ],
        )
    result = meter.scores()
    assert result.ap == pytest.approx(AP, abs=1e-9)
    assert result.ap50 == pytest.approx(AP50, abs=1e-9)


def write(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_labels_as_detect_writes_them(tmp_path):
    lines = [
        {"camera": "a.mp4", "index": 3, "width": 64, "height": 48,
         "detections": [{"label": "person", "label_id": 0, "score": 0.9, "box": [1, 2, 30, 40]}]},
        {"camera": "a.mp4", "index": 4, "detections": []},
        {"index": 5, "detections": [{"label": "car", "box": [0, 0, 5, 5], "ignored": True}]},
    ]  # fmt: skip
    labels = read_labels(write(tmp_path / "l.jsonl", "\n".join(map(json.dumps, lines)) + "\n"))
    assert labels.of("a.mp4", 3, (64, 48)) == [TrueBox("person", (1.0, 2.0, 30.0, 40.0))]
    assert labels.of("a.mp4", 4, (64, 48)) == []
    assert labels.of("b.mp4", 5, (64, 48)) == [TrueBox("car", (0.0, 0.0, 5.0, 5.0), ignored=True)]
    assert labels.of("b.mp4", 3, (64, 48)) is None, "unknown, not empty"
    with pytest.raises(ConfigError, match=r"labelled at 64x48.*is 32x24"):
        labels.of("a.mp4", 3, (32, 24))


def test_labels_of_coco(tmp_path):
    data = {
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        "images": [
            {"id": 10, "file_name": "night/frame_000007.png", "width": 64, "height": 48},
            {"id": 11, "file_name": "lamp.png"},
        ],
        "annotations": [
            {"image_id": 10, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0},
            {"image_id": 10, "category_id": 1, "bbox": [5, 5, 5, 5], "iscrowd": 1},
        ],
    }
    labels = read_labels(write(tmp_path / "coco.json", data))
    expected = [TrueBox("car", (1.0, 2.0, 11.0, 22.0)), TrueBox("person", (5.0, 5.0, 10.0, 10.0), crowd=True)]
    assert labels.of("any.mp4", 7, (64, 48)) == expected, "by the number of the frame"
    assert labels.of("frame_000007.png", 0, (64, 48)) == expected, "by the name of the picture"
    assert labels.of("lamp.png", 0, (1, 1)) == []
    data["videos"] = [{"id": 1, "name": "a.mp4"}, {"id": 2, "name": "b.mp4"}]
    data["images"] = [{"id": 10, "video_id": 1, "frame_id": 0}, {"id": 11, "video_id": 2, "frame_id": 0}]
    labels = read_labels(write(tmp_path / "video.json", data))
    assert len(labels.of("a.mp4", 0, (9, 9)) or []) == 2
    assert labels.of("b.mp4", 0, (9, 9)) == []


@pytest.mark.parametrize("text", ["", "no json", "{}", "[1, 2]", '{"images": [{"id": 1}]}', '{"index": 1}\n{"index":'])
def test_files_that_are_no_labels(tmp_path, text):
    with pytest.raises(ConfigError, match="labels"):
        read_labels(write(tmp_path / "l.json", text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labels(tmp_path / "no.json")
