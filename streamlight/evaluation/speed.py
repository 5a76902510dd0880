"""Speed of whole jobs by model: what ``streamlight evaluate speed`` measures.

The cases are those of :mod:`streamlight.evaluation.bench`: every run is a process of its own that decodes, enhances and
encodes a clip as ``streamlight enhance`` does. Runs are interleaved, and the one of median elapsed time counts.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from streamlight.errors import ConfigError
from streamlight.evaluation.bench import median_sample, run_case, synthetic_clips
from streamlight.evaluation.cases import Sample
from streamlight.evaluation.contenders import Contender
from streamlight.evaluation.cost import Cost, cost_of
from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.media import probe

ENCODERS: Final = ("superfast", "ultrafast")
"""Presets of x264."""


@dataclass(frozen=True, slots=True)
class SpeedFigure:
    """One model on one clip into one encoder preset.

    Attributes:
        label: The contender's.
        clip: Name and size of the clip.
        encoder: Preset of x264.
        frames: Frames of a run.
        fps: Frames per elapsed second, the whole job.
        spread: Slowest run over fastest, elapsed time.
        core_ms: CPU milliseconds a frame, over all threads.
        enhance_ms: Milliseconds a frame that the enhancing stage was busy.
        peak_memory: Bytes; the largest of all runs.
    """

    label: str
    clip: str
    encoder: str
    frames: int
    fps: float
    spread: float
    core_ms: float
    enhance_ms: float
    peak_memory: int


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """What was measured, on what, by which command.

    Attributes:
        command: How it was called.
        machine: Where.
        load: Other work on the machine as it began: load average over a minute; None where the system does not say.
        repeat: Runs of every case.
        models: Card, settings and weights file by label.
        costs: Parameters and multiply-accumulates by label.
        figures: In order.
    """

    command: str
    machine: Machine
    load: float | None
    repeat: int
    models: dict[str, dict[str, Any]]
    costs: dict[str, Cost]
    figures: list[SpeedFigure]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """Markdown tables: what the models cost, and how fast they are."""
        return f"{cost_table(self.costs)}\n\n{self.table()}"

    def table(self) -> str:
        """How fast the models are, as a Markdown table."""
        busy = f", load {self.load:.1f} before" if self.load is not None else ""
        lines = [f"| end to end, median of {self.repeat}{busy} | clip | x264 | fps | spread | core-ms | enhance ms |"]
        lines.append("|---|---|---|---:|---:|---:|---:|")
        for f in self.figures:
            cells = f"{f.fps:.1f} | {f.spread:.2f} | {f.core_ms:.1f} | {f.enhance_ms:.1f}"
            lines.append(f"| {f.label} | {f.clip} | {f.encoder} | {cells} |")
        return "\n".join(lines)


def cost_table(costs: Mapping[str, Cost]) -> str:
    """What models cost, by label, as a Markdown table."""
    lines = ["| model | parameters | MACs | of a frame of |", "|---|---:|---:|---|"]
    for label, cost in costs.items():
        lines.append(f"| {label} | {cost.parameters:,} | {macs_text(cost.macs)} | {cost.size} |")
    return "\n".join(lines)


def measure_speed(
    contenders: Sequence[Contender],
    *,
    clips: Sequence[str | Path] = (),
    encoders: Sequence[str] = ENCODERS,
    repeat: int = 3,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> SpeedReport:
    """Measure whole jobs.

    Args:
        contenders: Models; baselines are no product and have no speed.
        clips: Video files; none for two synthetic 1080p clips, "busy" and "dark".
        encoders: Presets of x264.
        repeat: Runs of every case; the median counts.
        command: How this was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: A baseline is among the contenders, or ``repeat`` is out of range.
        MediaError: A clip cannot be read, or a run failed.
        ModelError: A model cannot be loaded.
    """
    baselines = [contender.label for contender in contenders if contender.baseline]
    if baselines or not contenders or repeat < 1 or not encoders:
        what = f"'{baselines[0]}' is none" if baselines else f"got {len(contenders)} models, repeat {repeat}"
        raise ConfigError(f"speed is measured of models, repeat must be at least 1: {what}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    models, costs = {}, {}
    for contender in contenders:
        with closing(contender.open()) as enhancer:
            models[contender.label], costs[contender.label] = contender.describe(enhancer), cost_of(enhancer)
    with tempfile.TemporaryDirectory(prefix="streamlight-speed-") as folder:
        named = [(Path(c).name, Path(c)) for c in clips] or synthetic_clips(Path(folder), progress)
        sizes = {name: (info.width, info.height) for name, info in ((name, probe(path)) for name, path in named)}
        orders = [(name, path, encoder, c) for name, path in named for encoder in encoders for c in contenders]
        samples: list[list[Sample]] = [[] for _ in orders]
        for turn in range(repeat):
            for found, (name, path, encoder, contender) in zip(samples, orders, strict=True):
                progress(f"{name}: {contender.label}, {encoder} ({turn + 1} of {repeat})")
                values = {**contender.values(), "encoder_preset": encoder}
                found.append(run_case("end-to-end", path, "default", values=values))
        figures = [
            _figure(contender.label, f"{name}, {sizes[name][0]}x{sizes[name][1]}", encoder, found)
            for found, (name, _, encoder, contender) in zip(samples, orders, strict=True)
        ]
    return SpeedReport(command, describe_machine(), load, repeat, models, costs, figures)


def macs_text(macs: int) -> str:
    """``1234000`` → ``"1.23 M"``."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if macs >= size:
            return f"{macs / size:.3g} {unit}"
    return f"{macs}"


def _figure(label: str, clip: str, encoder: str, samples: Sequence[Sample]) -> SpeedFigure:
    middle = median_sample(samples)
    walls = [sample.wall for sample in samples]
    return SpeedFigure(
        label,
        clip,
        encoder,
        middle.frames,
        middle.frames / middle.wall,
        max(walls) / min(walls),
        1e3 * middle.cpu / middle.frames,
        1e3 * middle.steps["enhance"] / middle.frames,
        max(sample.peak_memory for sample in samples),
    )
