"""Speed and memory, stage by stage and end to end: what ``streamlight bench`` measures.

Every case runs in a process of its own, ``repeat`` times; the run of median elapsed time counts, and the largest peak
memory of all runs. Cases are interleaved, so that a machine that slows down meanwhile slows all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamlight.cores import available_cores
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.cases import CaseName, Sample
from streamlight.evaluation.machine import Machine, describe_machine

PRESETS = ("default", "realtime")
SYNTHETIC_FRAMES = 240


@dataclass(frozen=True, slots=True)
class Figure:
    """One case on one clip.

    Attributes:
        case: What was done: ``decode``, ``encode``, ``enhance`` (each alone) or ``end-to-end``.
        preset: Preset in force; decoding depends on none.
        frames: Frames of one run.
        fps: Frames per elapsed second.
        ms: Elapsed milliseconds a frame.
        core_ms: CPU milliseconds a frame, over all threads.
        of_decode: ``fps`` as a share of the speed of decoding alone, measured in the same run.
        peak_memory: Bytes; the largest of all runs.
        spread: Slowest run over fastest run, elapsed time.
        steps_ms: Milliseconds a frame in each step of the enhancer or busy in each stage of the pipeline.
        overlap: For end-to-end: elapsed time over what it could be at best, the larger of the busiest stage's time
            and all CPU time divided by the cores. 1 is perfect.
        about: Encoder and decoder really used.
    """

    case: CaseName
    preset: str
    frames: int
    fps: float
    ms: float
    core_ms: float
    of_decode: float
    peak_memory: int
    spread: float
    steps_ms: dict[str, float] = field(default_factory=dict)
    overlap: float | None = None
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClipResult:
    """All figures of one clip; ``growth``: peak memory on a ``long`` times longer clip over that on the clip itself."""

    name: str
    picture: str
    figures: list[Figure]
    long: int = 0
    long_peak_memory: int = 0
    growth: float | None = None


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, on what, by which command."""

    machine: Machine
    command: str
    repeat: int
    clips: list[ClipResult]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def run_bench(
    clips: Sequence[str | Path] = (),
    *,
    presets: Sequence[str] = PRESETS,
    repeat: int = 3,
    long: int = 10,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Measure.

    Args:
        clips: Video files; none for two synthetic 1080p clips, "busy" and "dark".
        presets: Presets for the cases that depend on one.
        repeat: Runs of each case; the median counts.
        long: Peak memory is measured again on a clip this many times longer; 0 leaves that out.
        command: How the benchmark was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: ``repeat`` or ``long`` is out of range, or a preset is unknown.
        MediaError: A clip cannot be read, or a case failed.
    """
    from streamlight.config import load_config
    from streamlight.media import probe

    if repeat < 1 or long < 0 or not presets:
        raise ConfigError(f"expected repeat >= 1, long >= 0 and a preset, got {repeat}, {long}, {list(presets)}")
    for preset in presets:
        load_config(preset=preset)
    for clip in clips:
        probe(clip)
    with tempfile.TemporaryDirectory(prefix="streamlight-bench-") as folder:
        named = [(Path(clip).name, Path(clip)) for clip in clips] or synthetic_clips(Path(folder), progress)
        results = [_clip(name, path, presets, repeat, long, Path(folder), progress) for name, path in named]
    return BenchResult(describe_machine(), command, repeat, results)


def synthetic_clips(folder: Path, progress: Callable[[str], None]) -> list[tuple[str, Path]]:
    """The two synthetic 1080p clips, written into a folder, with their names."""
    from streamlight.evaluation.scenes import SCENES, write_scene

    progress("making the synthetic clips")
    return [
        (f"synthetic {scene}", write_scene(folder / f"{scene}.mp4", scene, frames=SYNTHETIC_FRAMES)) for scene in SCENES
    ]


def _clip(
    name: str,
    path: Path,
    presets: Sequence[str],
    repeat: int,
    long: int,
    folder: Path,
    progress: Callable[[str], None],
) -> ClipResult:
    orders: list[tuple[CaseName, str]] = [("decode", presets[0]), ("enhance", presets[0])]
    for preset in presets:
        orders += [("encode", preset), ("end-to-end", preset)]
    samples: dict[tuple[CaseName, str], list[Sample]] = {order: [] for order in orders}
    for turn in range(repeat):
        for case, preset in orders:
            progress(f"{name}: {case}, {preset} ({turn + 1} of {repeat})")
            samples[case, preset].append(run_case(case, path, preset))
    decoded = median_sample(samples["decode", presets[0]])
    of_decode = decoded.frames / decoded.wall
    figures = [_figure(case, preset, samples[case, preset], of_decode) for case, preset in orders]
    picture = f"{decoded.about['size']} {decoded.about['codec']}"
    if not long:
        return ClipResult(name, picture, figures)
    from streamlight.media.clips import repeat_clip

    looped = folder / f"long{path.suffix}"
    repeat_clip(path, looped, long)
    preset = presets[-1]
    progress(f"{name}: end-to-end, {preset}, {long} times the length")
    peak = run_case("end-to-end", looped, preset).peak_memory
    looped.unlink()
    short = max(sample.peak_memory for sample in samples["end-to-end", preset])
    return ClipResult(name, picture, figures, long, peak, peak / short if short else None)


def run_case(case: CaseName, clip: Path, preset: str, *, values: Mapping[str, Any] | None = None) -> Sample:
    """Run one case in a process of its own.

    Args:
        case: Which.
        clip: What it works on.
        preset: Preset in force.
        values: Options by name that win over it.

    Raises:
        MediaError: The case failed; the message says why.
    """
    order = json.dumps({"case": case, "clip": str(clip), "preset": preset, "values": dict(values or {})})
    child = subprocess.run(
        [sys.executable, "-m", "streamlight.evaluation.cases", order], capture_output=True, text=True, check=False
    )
    lines = child.stdout.strip().splitlines()
    if child.returncode or not lines:
        why = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise MediaError(f"benchmark case {case} on {clip.name} failed: {why}")
    return Sample(**json.loads(lines[-1]))


def median_sample(samples: Sequence[Sample]) -> Sample:
    """The run of median elapsed time."""
    return sorted(samples, key=lambda sample: sample.wall)[len(samples) // 2]


def _figure(case: CaseName, preset: str, samples: Sequence[Sample], of_decode: float) -> Figure:
    middle = median_sample(samples)
    frames, wall = max(middle.frames, 1), max(middle.wall, 1e-9)
    best = max([middle.cpu / available_cores(), *middle.steps.values()])
    return Figure(
        case=case,
        preset="" if case == "decode" else preset,
        frames=middle.frames,
        fps=frames / wall,
        ms=1e3 * wall / frames,
        core_ms=1e3 * middle.cpu / frames,
        of_decode=frames / wall / of_decode,
        peak_memory=max(sample.peak_memory for sample in samples),
        spread=max(s.wall for s in samples) / max(min(s.wall for s in samples), 1e-9),
        steps_ms={name: 1e3 * seconds / frames for name, seconds in middle.steps.items()},
        overlap=wall / best if case == "end-to-end" else None,
        about=middle.about,
    )
