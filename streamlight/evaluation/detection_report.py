"""What ``streamlight evaluate detection`` tells: tables, and all of it as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

from streamlight.evaluation.detection_scores import Scores
from streamlight.evaluation.machine import Machine

DEFINITIONS: Final = {
    "recall": "share of the true boxes that a detection of the operating score overlaps by 0.5 or more, same class",
    "precision": "share of the detections of the operating score that are right",
    "AP50": "average precision at the overlap 0.5 as COCO defines it, mean over the classes with true boxes",
    "AP": "the same, mean over the overlaps 0.5, 0.55, …, 0.95",
    "false": "detections of the operating score that are wrong",
}
"""One line a figure, for reports."""


@dataclass(frozen=True, slots=True)
class CaseReport:
    """One clip.

    Attributes:
        name: Of the clip, and what was done to it.
        size: ``"768x576"``.
        frames: Frames that were measured.
        luma: Mean luma of the dark clip above black, in 8-bit codes of limited range (219 from black to white).
        rows: Scores by the contenders' labels; the dark clip itself is ``"input"``.
        by_label: The same by class.
    """

    name: str
    size: str
    frames: int
    luma: float
    rows: dict[str, Scores]
    by_label: dict[str, dict[str, Scores]]


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """What was measured, with what, on what, by which command.

    Attributes:
        command: How it was called.
        machine: Where.
        detector: What the detector says of itself.
        threshold: Operating score.
        truth: Where the true boxes come from, in words.
        models: Card, settings and weights file by label.
        cases: In order.
        unknown: Labels that the detector has no class for, and their boxes; these are left out.
    """

    command: str
    machine: Machine
    detector: dict[str, Any]
    threshold: float
    truth: str
    models: dict[str, dict[str, Any]]
    cases: list[CaseReport]
    unknown: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "command": self.command,
            "machine": self.machine.to_dict(),
            "detector": self.detector,
            "threshold": self.threshold,
            "truth": self.truth,
            "models": self.models,
            "definitions": DEFINITIONS,
            "cases": [asdict(case) for case in self.cases],
            "unknown": self.unknown,
        }

    def summary(self) -> str:
        """One Markdown table for each clip."""
        return "\n\n".join(_table(case) for case in self.cases)

    def markdown(self) -> str:
        """The report as a Markdown page: command, machine, detector, definitions, every clip, every class."""
        detector = self.detector
        what = ", ".join(str(detector[key]) for key in ("kind", "file", "layout", "input") if key in detector)
        parts = [
            "# Detection in the dark",
            f"    {self.command}" if self.command else "",
            "\n".join(f"{line}  " for line in self.machine.lines()).rstrip(),
            f"Detector: {what}; operating score {self.threshold:g}. Truth: {self.truth}.",
            "\n".join(f"* {name}: {text}" for name, text in DEFINITIONS.items()),
            "".join(f"\n* not a class of the detector: {name}, {n} boxes" for name, n in self.unknown.items()).strip(),
            self.summary(),
            "\n\n".join(_class_table(case) for case in self.cases if len(_classes(case)) > 1),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def _table(case: CaseReport) -> str:
    boxes = next(iter(case.rows.values())).boxes
    head = f"{case.name}: {case.frames} frames, {boxes} boxes, mean luma {case.luma:.1f} of 219".replace("|", "\\|")
    lines = [f"| {head} | recall | precision | AP50 | AP | false |", "|---|---:|---:|---:|---:|---:|"]
    for label, row in case.rows.items():
        cells = (_shown(row.recall), _shown(row.precision), _shown(row.ap50), _shown(row.ap), str(row.false))
        lines.append(f"| {label.replace('|', chr(92) + '|')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _classes(case: CaseReport) -> list[str]:
    counts: Counter[str] = Counter()
    for scores in case.by_label.values():
        counts |= Counter({label: row.boxes for label, row in scores.items()})
    return [label for label, _ in counts.most_common()]


def _class_table(case: CaseReport) -> str:
    """Recall by class."""
    classes = _classes(case)
    boxes = next(iter(case.by_label.values()))
    heads = [f"{name} ({boxes[name].boxes})" for name in classes]
    lines = [f"| {case.name}, recall | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for label, scores in case.by_label.items():
        lines.append(f"| {label} | {' | '.join(_shown(scores[name].recall) for name in classes)} |")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
