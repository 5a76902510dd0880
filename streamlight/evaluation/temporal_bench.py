"""How steady enhanced video is and what that costs: what ``streamlight bench temporal`` measures.

Frames stay in memory: nothing is coded, so that what is measured is the enhancer and not a codec. *Frame by frame* is a
model for pictures used on a video: nothing is remembered, and noise is drawn anew for every frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch

from streamlight.enhance import EnhanceSettings
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.contenders import Contender, parse_contender
from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.evaluation.temporal_clips import PairedClip, clips_to_measure
from streamlight.evaluation.temporal_overhead import overhead_row
from streamlight.evaluation.temporal_parts import cut_row, full_clip, guided_rows, still_rows, warm_rows
from streamlight.evaluation.temporal_rows import Row, table
from streamlight.evaluation.temporal_ways import Subject, Taken, Way, take
from streamlight.evaluation.truth import RATE

Part = Literal["steady", "cut", "still", "warm", "guided", "overhead"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
SWEEP: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
DEFAULT: Final[float] = EnhanceSettings().stability
PLAIN_MODELS: Final = ("tonenet", "retinex")

DEFINITIONS: Final = {
    "frame by frame": "nothing is remembered, and noise is drawn anew for every frame",
    "arrow": "frame by frame → with the memory of a stream, default stability: after / before, or after - before",
    "E_warp, flicker": "as in docs/evaluation.md, in steady light, mean over the clips; motion of the drawn scenes is "
    "exact, that of the darkened clips estimated in the clean frames",
    "PSNR": "luma as it is, dB, mean over the clips",
    "temperature": "standard deviations of the prior that the noise is drawn with; 0 decodes its mean. Models that do "
    "not sample stand at 0",
    "core-second": "a second of one core: of what ran on several, the sum",
    "drift": "of mean luma: largest less smallest mean over any ten seconds (a fifth of the scene at most) once "
    "exposures have settled",
}


@dataclass(frozen=True, slots=True)
class TemporalBench:
    """What was measured, on what, by which command.

    Attributes:
        machine: Where.
        load: Other work on the machine as it began: load average over a minute; None where the system does not say.
        threads: Of torch.
        commands: How it was called; several where results were joined.
        stability: The default.
        clips: Size by name.
        cuts: First frame of the second shot by name, of the clips that have one.
        frames: Of each clip.
        models: Card, recipe, steps and digest by label.
        rows: The table.
        taken: What stands behind it, by model, clip and way.
        still: Mean luma above black on the still scene by model, the mean of every second.
    """

    machine: Machine
    load: float | None
    threads: int
    commands: list[str]
    stability: float
    clips: dict[str, str]
    cuts: dict[str, int]
    frames: int
    models: dict[str, dict[str, Any]]
    rows: list[Row]
    taken: list[Taken]
    still: dict[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"definitions": DEFINITIONS, "rows": [row.to_dict() for row in self.rows]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TemporalBench:
        """The inverse of :meth:`to_dict`.

        Raises:
            KeyError: Something is missing.
            TypeError: Something has another shape.
        """
        values = {entry.name: plain[entry.name] for entry in fields(cls)}
        kept = [entry.name for entry in fields(Row)]
        values["machine"] = Machine(**plain["machine"])
        values["rows"] = [Row(**{name: row[name] for name in kept}) for row in plain["rows"]]
        values["taken"] = [Taken(**one) for one in plain["taken"]]
        return cls(**values)

    def joined(self, later: TemporalBench) -> TemporalBench:
        """Both: models that ``later`` has measured as there, all others as here.

        Raises:
            ConfigError: They were not measured on the same frames, on the same kind of machine, and with the same
                default.
        """
        for name in ("clips", "frames", "stability", "threads"):
            if getattr(self, name) != getattr(later, name):
                raise ConfigError(f"results to join differ in {name}: {getattr(self, name)}, {getattr(later, name)}")
        if (self.machine.cpu, self.machine.cores) != (later.machine.cpu, later.machine.cores):
            raise ConfigError("results to join were measured on different machines")
        return replace(
            later,
            commands=[*self.commands, *later.commands],
            models=self.models | later.models,
            rows=[*(row for row in self.rows if row.model not in later.models), *later.rows],
            taken=[*(one for one in self.taken if one.model not in later.models), *later.taken],
            still=self.still | later.still,
        )

    def summary(self) -> str:
        """The table."""
        return table(self.rows)


def contenders_of(models: Sequence[str], weights: Sequence[str] = ()) -> list[Contender]:
    """Models from the words of a command: contenders, and ``NAME=FILE`` for weights under a name.

    Raises:
        ConfigError: A word does not read like that, or an option is unknown.
    """
    for word in weights:
        name, given, file = word.partition("=")
        if not given or not name or not file:
            raise ConfigError(f"--weights {word}: expected NAME=FILE, for example llflow=my.safetensors")
    named = [f"{file},label={name}" for name, _, file in (word.partition("=") for word in weights)]
    return [parse_contender(word) for word in [*(models or PLAIN_MODELS), *named]]


def read_bench(path: str | Path) -> TemporalBench:
    """What was written as JSON.

    Raises:
        MediaError: The file cannot be read, or is none of these.
    """
    try:
        return TemporalBench.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{path}: is no result of 'streamlight bench temporal --json': {error}") from error


def thinned(levels: Sequence[float]) -> list[float]:
    """Means of every second."""
    every = round(RATE)
    stretches = (levels[start : start + every] for start in range(0, len(levels), every))
    return [round(sum(stretch) / len(stretch), 4) for stretch in stretches]


def bench_temporal(
    contenders: Sequence[Contender] = (),
    *,
    data: str | Path | None = None,
    parts: Sequence[str] = PARTS,
    frames: int = 24,
    size: int = 192,
    sweep: Sequence[float] = (),
    still_frames: int = 10_000,
    still_pictures: int = 300,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> TemporalBench:
    """Measure.

    Args:
        contenders: Models; none for those in the package that need no weights file.
        data: Folder with ``video``, for the darkened clips; None for the drawn scenes alone.
        parts: What to measure.
        frames: Of each clip.
        size: Long side of the clips, pixels.
        sweep: Values of stability to compare besides 0 and the default, at the temperature that is the model's own.
        still_frames: Frames of the still scene.
        still_pictures: The same for models that work on whole RGB pictures, which are slow.
        command: How the benchmark was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: A number or a model's setting is out of range, or a part is unknown.
        ModelError: A model cannot be loaded.
        MediaError: A clip is missing or cannot be read.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ConfigError(f"unknown part '{unknown[0]}'; there are {', '.join(PARTS)}")
    if min(still_frames, still_pictures) < 10:
        raise ConfigError(f"a still scene needs 10 frames or more, got {still_frames} and {still_pictures}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    chosen = list(contenders) or [parse_contender(name) for name in PLAIN_MODELS]
    if repeated := {one.label for one in chosen if sum(one.label == other.label for other in chosen) > 1}:
        raise ConfigError(f"two models are called '{repeated.pop()}': give one a label=NAME")
    subjects = [Subject.of(contender) for contender in chosen]
    clips = clips_to_measure(data, frames=frames, long_side=size)
    bench = TemporalBench(
        machine=describe_machine(),
        load=load,
        threads=torch.get_num_threads(),
        commands=[command],
        stability=DEFAULT,
        clips={clip.name: clip.size for clip in clips},
        cuts={clip.name: clip.cut for clip in clips if clip.cut is not None},
        frames=frames,
        models={subject.label: subject.describe() for subject in subjects},
        rows=[],
        taken=[],
    )
    for subject in subjects:
        if "steady" in parts:
            _steady(bench, subject, clips, sweep=sweep, tell=progress)
        still = still_pictures if subject.pictures else still_frames
        _others(bench, subject, clips, parts=parts, still=still, tell=progress)
    if "guided" in parts and any(subject.pictures for subject in subjects):
        full = full_clip(progress)
        for subject in subjects:
            if subject.pictures:
                bench.rows.extend(guided_rows(subject, full, tell=progress))
    return bench


def _steady(
    bench: TemporalBench,
    subject: Subject,
    clips: Sequence[PairedClip],
    *,
    sweep: Sequence[float],
    tell: Callable[[str], None],
) -> None:
    for way in _ways(subject, sweep):
        with closing(subject.open(**way.values())) as enhancer:
            for clip in clips:
                tell(f"{subject.label}: {clip.name}, {_told(way)}")
                bench.taken.append(take(subject, way, clip, enhancer))
    for temperature in (1.0, 0.0) if subject.samples else (None,):
        bench.rows.extend(steady_rows(subject.label, bench.taken, temperature))


def _ways(subject: Subject, sweep: Sequence[float]) -> list[Way]:
    if not subject.samples:
        return [Way(None, None), Way(DEFAULT, None)]
    found = []
    for temperature in (1.0, 0.0):
        more = sweep if temperature == subject.temperature else ()
        # Without noise in the latent, stability 0 is frame by frame.
        values = {0.0, DEFAULT, *more} if temperature else {DEFAULT, *more} - {0.0}
        found += [Way(value, temperature) for value in (None, *sorted(values))]
    return found


def _told(way: Way) -> str:
    text = "frame by frame" if way.anew else f"stability {way.stability:g}"
    return text if way.temperature is None else f"{text}, temperature {way.temperature:g}"


def steady_rows(label: str, taken: Sequence[Taken], temperature: float | None) -> list[Row]:
    """The rows of one model at one temperature, from what was measured clip by clip."""

    def mean(stability: float | None, figure: str) -> float | None:
        values = [
            getattr(one, figure)
            for one in taken
            if (one.model, one.stability, one.temperature) == (label, stability, temperature)
        ]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    end = f"{temperature or 0.0:g}"
    pairs = [
        (f"warp_{end}", mean(None, "warp_error"), mean(DEFAULT, "warp_error")),
        (f"flicker_{end}", mean(None, "flicker"), mean(DEFAULT, "flicker")),
        (f"flicker_{end}_clean", mean(DEFAULT, "clean_flicker"), mean(DEFAULT, "flicker")),
        (f"psnr_{end}", mean(None, "psnr"), mean(DEFAULT, "psnr")),
        (f"moving_{end}", mean(None, "psnr_moving"), mean(DEFAULT, "psnr_moving")),
    ]
    if temperature:
        pairs.append(("warp_1_same", mean(0.0, "warp_error"), mean(DEFAULT, "warp_error")))
    else:
        pairs.append(("warp_clean", mean(DEFAULT, "clean_warp_error"), mean(DEFAULT, "warp_error")))
    return [Row(key, label, after, before) for key, before, after in pairs if after is not None]


def _others(
    bench: TemporalBench,
    subject: Subject,
    clips: Sequence[PairedClip],
    *,
    parts: Sequence[str],
    still: int,
    tell: Callable[[str], None],
) -> None:
    if "cut" in parts:
        tell(f"{subject.label}: a cut")
        bench.rows.append(cut_row(subject))
    if "still" in parts:
        tell(f"{subject.label}: still scene")
        rows, levels = still_rows(subject, frames=still, tell=tell)
        bench.still[subject.label] = thinned(levels)
        bench.rows.extend(rows)
    if "warm" in parts and subject.steps:
        tell(f"{subject.label}: warm start")
        bench.rows.extend(warm_rows(subject, clips[:2]))
    if "overhead" in parts:
        tell(f"{subject.label}: overhead")
        bench.rows.append(overhead_row(subject))
