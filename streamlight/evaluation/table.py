"""One table of everything that is claimed: what ``streamlight evaluate table`` measures and prints.

Stills with references (the synthetic set and real pairs), darkened clips, night clips without a reference, speed and
cost, for the models whose weights come with the package and for the baselines; and the goals, each met or missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, get_args

from streamlight.errors import ConfigError
from streamlight.evaluation.contenders import GAMMA, INPUT, Contender, parse_contender
from streamlight.evaluation.cost import Cost, cost_of
from streamlight.evaluation.datasets import Pair, dataset_pairs
from streamlight.evaluation.goals import (
    DAY,
    FASTEST,
    GENERATIVE,
    NIGHT,
    PLAIN,
    REAL,
    SPEED,
    SYNTHETIC,
    Outcome,
    outcomes,
)
from streamlight.evaluation.images import DEFINITIONS as STILL_DEFINITIONS
from streamlight.evaluation.images import Figures, evaluate_images
from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.evaluation.speed import SpeedReport, cost_table, measure_speed
from streamlight.evaluation.synthetic import synthetic_pairs
from streamlight.evaluation.video import DEFINITIONS as VIDEO_DEFINITIONS
from streamlight.evaluation.video import VideoReport, evaluate_video
from streamlight.models import names
from streamlight.models.record import Measured, credited, file_digest, record_measured
from streamlight.models.registry import packaged_weights

Part = Literal["stills", "video", "speed"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

RETINEX: Final = "retinex"


@dataclass(frozen=True, slots=True)
class StillRow:
    """A contender on a set of pictures.

    Attributes:
        psnr, ssim: As they are.
        gt_mean: PSNR with GT-mean.
        gt_mean_ssim: SSIM with GT-mean.
        seconds: A picture, median; None for the input.
    """

    psnr: float
    ssim: float
    gt_mean: float
    gt_mean_ssim: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was measured, with what, on what, by which command; parts that were left out are empty or None.

    Attributes:
        command: How it was called.
        machine: Where.
        models: Card, settings and weights file by label.
        costs: Parameters and multiply-accumulates by label.
        pictures: Number of pictures by set.
        stills: Set → label → figures.
        video: Darkened clips and night clips.
        speed: Whole jobs, and what the networks cost.
    """

    command: str
    machine: Machine
    models: dict[str, dict[str, Any]]
    costs: dict[str, Cost]
    pictures: dict[str, int]
    stills: dict[str, dict[str, StillRow]]
    video: VideoReport | None
    speed: SpeedReport | None

    def lookup(self, part: str, label: str, key: str) -> float | None:
        """One figure, None where it was not measured; of speed that of the slowest clip."""
        rows: dict[str, Any] = dict(self.stills.get(part, {}))
        if self.video is not None:
            rows |= self.video.means().get(part, {})
            rows |= {name: row for clip in self.video.clips if clip.name == part for name, row in clip.rows.items()}
        if part == SPEED:
            figures = self.speed.figures if self.speed else []
            return min((f.fps for f in figures if f.label == label and f.encoder == FASTEST), default=None)
        value = getattr(rows[label], key) if label in rows else None
        return None if value is None else float(value)

    def outcomes(self) -> list[Outcome]:
        """The goals, as far as their figures were measured."""
        return outcomes(self.lookup)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "command": self.command,
            "machine": self.machine.to_dict(),
            "models": self.models,
            "costs": {label: asdict(cost) for label, cost in self.costs.items()},
            "definitions": {"stills": STILL_DEFINITIONS, "video": VIDEO_DEFINITIONS},
            "pictures": self.pictures,
            "stills": {part: {label: asdict(row) for label, row in rows.items()} for part, rows in self.stills.items()},
            "video": self.video.to_dict() if self.video else None,
            "speed": self.speed.to_dict() if self.speed else None,
            "goals": [{**asdict(outcome), "met": outcome.met} for outcome in self.outcomes()],
        }

    def markdown(self) -> str:
        """The whole table."""
        weights = {m["weights"]["file"]: m["weights"]["sha256"] for m in self.models.values() if m["weights"]}
        parts = [
            f"    $ {self.command}" if self.command else "",
            "\n".join(f"{line}  " for line in self.machine.lines()).rstrip(),
            "\n".join(f"* {file}: SHA-256 {digest}" for file, digest in weights.items()),
            self._stills(),
            self.video.summary() if self.video else "",
            cost_table(self.costs),
            self.speed.table() if self.speed else "",
            self._goals(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def of_model(self, name: str) -> list[str]:
        """What was measured of a model in the package, in lines for its card."""
        lines = []
        for part, rows in self.stills.items():
            for label, row in rows.items():
                if _is_of(label, name):
                    figures = f"PSNR {row.psnr:.2f}, SSIM {row.ssim:.3f}, GT-mean PSNR {row.gt_mean:.2f}"
                    lines.append(f"{label} on {part} ({self.pictures[part]} pictures): {figures}")
        groups = self.video.means() if self.video else {}
        for group, found in groups.items():
            lines += [
                f"{label} on darkened clips, {group}: luma GT-mean PSNR {_number(row.gt_mean)} all, "
                f"{_number(row.moving)} moving, {_number(row.static)} static"
                for label, row in found.items()
                if _is_of(label, name)
            ]
        for figure in self.speed.figures if self.speed else []:
            if _is_of(figure.label, name):
                lines.append(f"{figure.label}: {figure.fps:.1f} fps end to end on {figure.clip}, x264 {figure.encoder}")
        return lines

    def _stills(self) -> str:
        if not self.stills:
            return ""
        heads = [f"{part}, {self.pictures[part]}: PSNR / SSIM / GT-mean PSNR" for part in self.stills]
        lines = [f"| stills | {' | '.join(heads)} | s a picture |", f"|---|{'---|' * len(heads)}---:|"]
        for label in next(iter(self.stills.values())):
            rows = [self.stills[part][label] for part in self.stills]
            cells = [f"{row.psnr:.2f} / {row.ssim:.3f} / {row.gt_mean:.2f}" for row in rows]
            times = [row.seconds for row in rows if row.seconds is not None]
            lines.append(f"| {label} | {' | '.join(cells)} | {f'{max(times):.2f}' if times else ''} |")
        return "\n".join(lines)

    def _goals(self) -> str:
        found = self.outcomes()
        if not found:
            return ""
        lines = ["| goal | limit | measured | |", "|---|---:|---:|---|"]
        for outcome in found:
            goal, digits = outcome.goal, 4 if outcome.goal.key == "ssim" else 2
            words = f"{goal.label}, {goal.part}, {goal.key.replace('_', '-')}"
            sign = "≤" if goal.most is not None else "≥"
            than = f" ({goal.than})" if goal.than else ""
            limit = f"{sign} {outcome.limit:.{digits}f}{than}"
            lines.append(f"| {words} | {limit} | {outcome.value:.{digits}f} | {'met' if outcome.met else 'missed'} |")
        return "\n".join(lines)


def check_cards() -> None:
    """See that :func:`write_cards` will find what it needs, before an hour is spent on measuring.

    Raises:
        ModelError: Weights in the package have no credits.
    """
    for weights in filter(None, map(packaged_weights, names())):
        credited(weights)


def write_cards(report: TableReport) -> list[Path]:
    """Write what was measured into the records of the weights in the package; returns those files.

    Raises:
        ModelError: A record is missing or cannot be written.
    """
    written = []
    for name in names():
        weights, lines = packaged_weights(name), report.of_model(name)
        if weights is None or not lines:
            continue
        cost = next((cost for label, cost in report.costs.items() if _is_of(label, name)), None)
        measured = Measured(
            sha256=file_digest(weights),
            command=report.command,
            machine=tuple(report.machine.lines()),
            macs=cost.macs if cost else None,
            macs_of=cost.size if cost else "",
            lines=tuple(lines),
        )
        written.append(record_measured(weights, measured))
    return written


def measure_table(
    data: str | Path,
    *,
    parts: Sequence[Part] = PARTS,
    also: Sequence[Contender] = (),
    cache: str | Path | None = None,
    repeat: int = 3,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> TableReport:
    """Measure everything; takes from minutes to an hour, as the weights in the package are.

    Args:
        data: Folder of the data: ``train/photos``, ``val_real_pairs``, ``video``, ``night_video``.
        parts: What is measured.
        also: More contenders for stills and, where they work on small copies, video.
        cache: Folder to keep what is made in.
        repeat: Runs of a speed case; the median counts.
        command: How this was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: A part is unknown.
        MediaError: Something is missing in the data or cannot be read.
        ModelError: A model cannot be loaded.
    """
    if not parts or not set(parts) <= set(PARTS):
        raise ConfigError(f"parts of the table are {', '.join(PARTS)}; got {', '.join(parts) or 'none'}")
    root, models = Path(data), _Models()
    stills: dict[str, dict[str, StillRow]] = {}
    pictures: dict[str, int] = {}
    if "stills" in parts:
        contenders = [*_parsed(GAMMA, RETINEX, *_tonenet(), *_generative()), *also]
        models.look_at(contenders)
        with synthetic_pairs(root, cache=cache) as made:
            sets = {SYNTHETIC: made, REAL: dataset_pairs("sice-like", root / "val_real_pairs")}
            stills = {name: _score(name, pairs, contenders, progress) for name, pairs in sets.items()}
            pictures = {name: len(pairs) for name, pairs in sets.items()}
    video = None
    if "video" in parts:
        contenders = [*_parsed(GAMMA, RETINEX, *_tonenet(plain=True)), *(c for c in also if _is_guided(c))]
        models.look_at(contenders)
        clips = sorted((root / "night_video").glob("*.mp4"))
        video = evaluate_video(contenders, data=root, clips=clips, cache=cache, progress=progress)
    speed = None
    if "speed" in parts:
        contenders = _parsed(RETINEX, *_tonenet()[:1])
        models.look_at(contenders)
        speed = measure_speed(contenders, repeat=repeat, progress=progress)
        night = sorted((root / "night_video").glob("*night.mp4"))
        if night:
            more = measure_speed(contenders, clips=night, repeat=repeat, progress=progress)
            speed = replace(speed, figures=[*speed.figures, *more.figures])
    return TableReport(command, describe_machine(), models.descriptions, models.costs, pictures, stills, video, speed)


class _Models:
    """What is told of the contenders, each looked at once."""

    def __init__(self) -> None:
        self.descriptions: dict[str, dict[str, Any]] = {}
        self.costs: dict[str, Cost] = {}

    def look_at(self, contenders: Sequence[Contender]) -> None:
        """Open those that are new."""
        for contender in contenders:
            if contender.baseline or contender.label in self.costs:
                continue
            with closing(contender.open()) as enhancer:
                self.descriptions[contender.label] = contender.describe(enhancer)
                self.costs[contender.label] = cost_of(enhancer)


def _score(
    name: str,
    pairs: Sequence[Pair],
    contenders: Sequence[Contender],
    progress: Callable[[str], None],
) -> dict[str, StillRow]:
    rows: dict[str, StillRow] = {}
    for contender in contenders:
        progress(f"{name}: {contender.label}")
        report = evaluate_images(pairs, contender=contender, dataset=name)
        rows.setdefault(INPUT, _still(report.untouched, None))
        seconds = median(picture.seconds for picture in report.pictures)
        rows[contender.label] = _still(report.result, seconds)
    return rows


def _still(figures: Figures, seconds: float | None) -> StillRow:
    plain, aligned = figures.plain, figures.gt_mean
    return StillRow(plain.psnr, plain.ssim, aligned.psnr, aligned.ssim, seconds)


def _parsed(*texts: str) -> list[Contender]:
    return [parse_contender(text) for text in texts]


def _tonenet(*, plain: bool = False) -> list[str]:
    """The default model in its looks, and, if wanted, without its denoiser; nothing while its weights are missing."""
    if "tonenet" not in names():
        return []
    return [look + end for look in (NIGHT, DAY) for end in (("", PLAIN) if plain else ("",))]


def _generative() -> list[str]:
    return [name for name in GENERATIVE if name in names()]


def _is_guided(contender: Contender) -> bool:
    with closing(contender.open()) as enhancer:
        return enhancer.model.card.color == "ycbcr"


def _is_of(label: str, name: str) -> bool:
    return label.split(",")[0] == name


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"
