"""True boxes from files: JSON Lines as ``streamlight detect`` writes them, or COCO's JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamlight.errors import ConfigError
from streamlight.evaluation.detection_scores import TrueBox


@dataclass(slots=True)
class Labels:
    """True boxes by file and frame. Frames that are not in it are unknown, not empty.

    Attributes:
        origin: The file they come from.
        boxes: By name of the file (empty: any) and number of the frame.
        sizes: Width and height of the picture, likewise, where they are told.
    """

    origin: str
    boxes: dict[tuple[str, int], list[TrueBox]] = field(default_factory=dict)
    sizes: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def of(self, file: str, index: int, size: tuple[int, int]) -> list[TrueBox] | None:
        """The boxes of a frame; None if it is not labelled.

        Raises:
            ConfigError: They are for a picture of another size.
        """
        key = next((key for key in ((file, index), ("", index)) if key in self.boxes), None)
        if key is None:
            return None
        told = self.sizes.get(key, size)
        if told != size:
            raise ConfigError(
                f"{self.origin}: frame {index} is labelled at {told[0]}x{told[1]}, but {file} is {size[0]}x{size[1]}"
            )
        return self.boxes[key]


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read labels.

    JSON Lines: one object a frame with ``index``, ``detections`` (``label`` and ``box``: left, top, right, bottom; and,
    if need be, ``"ignored": true``), and ``camera``, the name of the clip, where there are several. A frame without
    anything has an empty list.

    COCO: ``images``, ``annotations`` (``iscrowd`` is regarded) and ``categories``. Which frame an image is, its
    ``frame_index`` or ``frame_id`` says (of the clip that ``video_id`` names), else the number at the end of its file
    name; pictures are found by file name.

    Raises:
        ConfigError: The file cannot be read, is neither, or holds no frame.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"labels {file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    labels = Labels(str(file))
    try:
        data = _whole(text)
        if isinstance(data, dict) and "images" in data:
            _read_coco(data, labels)
        else:
            _read_lines(text, labels)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"labels {file}: expected JSON Lines as 'streamlight detect' writes them, or COCO's JSON ({what})"
        ) from error
    if not labels.boxes:
        raise ConfigError(f"labels {file}: holds no frame")
    return labels


def _whole(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # several lines


def _read_lines(text: str, labels: Labels) -> None:
    for line in filter(str.strip, text.splitlines()):
        frame = json.loads(line)
        key = (str(frame.get("camera", "")), int(frame["index"]))
        boxes = labels.boxes.setdefault(key, [])
        for item in frame["detections"]:
            left, top, right, bottom = map(float, item["box"])
            boxes.append(TrueBox(str(item["label"]), (left, top, right, bottom), bool(item.get("ignored", False))))
        if "width" in frame and "height" in frame:
            labels.sizes[key] = (int(frame["width"]), int(frame["height"]))


def _read_coco(data: dict[str, Any], labels: Labels) -> None:
    names = {item["id"]: str(item["name"]) for item in data["categories"]}
    videos = {item["id"]: Path(str(item.get("name") or item["file_name"])).name for item in data.get("videos", ())}
    boxes: dict[Any, list[TrueBox]] = {image["id"]: [] for image in data["images"]}
    for item in data["annotations"]:
        left, top, width, height = map(float, item["bbox"])
        box = (left, top, left + width, top + height)
        crowd = bool(item.get("iscrowd", 0))
        boxes[item["image_id"]].append(TrueBox(names[item["category_id"]], box, bool(item.get("ignore", 0)), crowd))
    doubtful = set()
    for image in data["images"]:
        for key in _keys(image, videos):
            if key in labels.boxes:
                doubtful.add(key)
            labels.boxes[key] = boxes[image["id"]]
            if "width" in image and "height" in image:
                labels.sizes[key] = (int(image["width"]), int(image["height"]))
    for key in doubtful:  # frames of several clips under one number
        del labels.boxes[key]


def _keys(image: dict[str, Any], videos: dict[Any, str]) -> Iterator[tuple[str, int]]:
    """Under which names and numbers a frame may be looked for."""
    clip = videos.get(image.get("video_id"), "")
    for field_name in ("frame_index", "frame_id"):
        if field_name in image:
            yield clip, int(image[field_name])
            return
    name = Path(str(image["file_name"])).name
    yield name, 0
    number = re.search(r"(\d+)$", Path(name).stem)
    if number is not None:
        yield clip, int(number[1])
