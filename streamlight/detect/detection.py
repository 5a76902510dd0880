"""What a detector finds, and what a detector is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Literal, Protocol

from streamlight.media.frame import Frame

Picture = Literal["raw", "enhanced"]
"""Which picture a detector saw: the camera's, or the enhanced one."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the source picture, 0 at its left and upper edge."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing that was found.

    Attributes:
        label: Name of its class.
        label_id: Number of its class, from 0.
        score: How sure the detector is, 0 to 1.
        box: Where, in pixels of the source picture, within it.
    """

    label: str
    label_id: int
    score: float
    box: Box

    def to_json(self) -> dict[str, Any]:
        """Plain values; scores to 4 digits, boxes to a hundredth of a pixel."""
        return {
            "label": self.label,
            "label_id": self.label_id,
            "score": round(self.score, 4),
            "box": [round(value, 2) for value in self.box],
        }


@dataclass(frozen=True, slots=True)
class DetectionEvent:
    """What was found in one frame.

    Attributes:
        camera: Name of the camera or file.
        index: Running number of the frame, in the order of its stream.
        pts: The frame's presentation time in units of ``time_base``.
        time_base: Seconds per unit of ``pts``.
        wall_clock: Seconds since the epoch at which the frame was taken, where the camera tells it; else None.
        width, height: Of the picture that the boxes lie in.
        on: Which picture the detector saw.
        detections: What was found, best first.
    """

    camera: str
    index: int
    pts: int
    time_base: Fraction
    wall_clock: float | None
    width: int
    height: int
    on: Picture
    detections: tuple[Detection, ...]

    @classmethod
    def of(
        cls, frame: Frame, detections: Sequence[Detection], *, camera: str = "", on: Picture = "enhanced"
    ) -> DetectionEvent:
        """The event of a frame; the wall clock is its ``notes["wall_clock"]``."""
        clock = frame.notes.get("wall_clock")
        return cls(
            camera=camera,
            index=frame.index,
            pts=frame.pts,
            time_base=frame.time_base,
            wall_clock=None if clock is None else float(clock),
            width=frame.width,
            height=frame.height,
            on=on,
            detections=tuple(detections),
        )

    @property
    def seconds(self) -> float:
        """Presentation time in seconds, for people; ``pts`` and ``time_base`` are exact."""
        return float(self.pts * self.time_base)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the exact time as ``pts`` and ``time_base`` ("1/90000"), the wall clock also as UTC text."""
        utc = None
        if self.wall_clock is not None:
            moment = datetime.fromtimestamp(self.wall_clock, UTC)
            utc = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "camera": self.camera,
            "index": self.index,
            "pts": self.pts,
            "time_base": str(self.time_base),
            "seconds": round(self.seconds, 6),
            "wall_clock": self.wall_clock,
            "utc": utc,
            "width": self.width,
            "height": self.height,
            "on": self.on,
            "detections": [detection.to_json() for detection in self.detections],
        }


class Detector(Protocol):
    """Finds things in frames. One thread at a time; what it remembers of a stream it keeps by the camera's name.

    Attributes:
        names: Class names; ``label_id`` counts in them.
    """

    names: Sequence[str]

    def __call__(self, frame: Frame, *, camera: str = "") -> list[Detection]:
        """What is in the frame, best first. The planes are only read.

        ``notes["turns"]`` of a frame says by how many quarter turns counter-clockwise it is brought upright, 0 if it is
        not there; boxes are in the frame as it lies.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What it is and how it runs, as plain values for reports: kind, file, layout, providers, fallbacks."""
        ...

    def forget(self, camera: str) -> None:
        """Drop what is remembered of a camera; nothing to do for most."""
        ...

    def close(self) -> None:
        """Release threads and memory."""
        ...
