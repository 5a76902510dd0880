"""What a card reaches: what ``streamlight bench gpu`` measures.

Ceilings of the device first, then every row, comparison and pipeline in a process of its own, so that one that fails
says why and the others go on. Weights are random but for the model in the package: time does not depend on them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch

from streamlight.config import suggestion
from streamlight.enhance.build import find_device
from streamlight.errors import ConfigError, DeviceError
from streamlight.evaluation.gpu_parts import read_sample, reason
from streamlight.evaluation.gpu_rows import (
    CAMERAS,
    CASES,
    DTYPES,
    FIGURES,
    PARITY,
    PIPELINE_ROW,
    ROWS,
    SIZE,
    CaseName,
    GpuOrder,
    GpuOutcome,
    GpuSample,
    outcomes,
)
from streamlight.evaluation.gpu_text import bench_lines
from streamlight.evaluation.machine import Machine, describe_machine

SYNTHETIC: Final = "synthetic"
"""Name of frames that are made here."""

PIPELINE_FRAMES: Final = 300
LIMIT: Final = 300.0
"""Seconds that a case may take before it is ended."""

QUICK_SIZE: Final = (320, 180)


@dataclass(frozen=True, slots=True)
class GpuResult:
    """One case on one kind of frames.

    Attributes:
        case: Kind of figures.
        row: Key of :data:`~streamlight.evaluation.gpu_rows.ROWS`; empty for the ceilings.
        clip: Name of the file, or ``"synthetic"``.
        seconds: That it took, with starting and loading.
        sample: What was measured.
    """

    case: CaseName
    row: str
    clip: str
    seconds: float
    sample: GpuSample

    @property
    def name(self) -> str:
        """In words, for people."""
        words = [self.case if self.case != "row" else "", self.row, self.clip if self.clip != SYNTHETIC else ""]
        return " ".join(word for word in words if word)


@dataclass(slots=True)
class GpuBench:
    """What was measured, on what, by which command; grows while it is measured.

    Attributes:
        command: How it was called.
        machine: Where.
        device: As torch calls it.
        order: What was asked of every row.
        results: By case, in order.
        missing: Why something was not begun, by case.
    """

    command: str
    machine: Machine
    device: str
    order: GpuOrder
    results: list[GpuResult] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether the goals are about such a run: a card, full size, bfloat16, so many cameras."""
        asked = self.order
        usual = (asked.width, asked.height) == SIZE and (asked.dtype, asked.cameras) == ("bfloat16", CAMERAS)
        return self.device.startswith("cuda") and usual and not asked.quick

    def lookup(self, row: str, key: str) -> float | None:
        """A figure of a row on synthetic frames; of ``"pipeline"`` that of the pipeline."""
        for one in self.results:
            wanted = one.case == "pipeline" if row == "pipeline" else one.row == row and one.case in ("row", "parity")
            if wanted and one.clip == SYNTHETIC and key in one.sample.figures:
                return one.sample.figures[key]
        return None

    def outcomes(self) -> list[GpuOutcome]:
        """All goals; those of a run that they are not about are unmeasured."""
        return outcomes(self.lookup if self.judged else lambda row, key: None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "command": self.command,
            "machine": self.machine.to_dict(),
            "device": self.device,
            "card": self.device.startswith("cuda"),
            "order": {key: value for key, value in asdict(self.order).items() if key not in ("case", "row", "clip")},
            "definitions": FIGURES,
            "results": [asdict(result) for result in self.results],
            "missing": self.missing,
            "goals_apply": self.judged,
            "goals": [outcome.to_dict() for outcome in self.outcomes()],
        }

    def lines(self) -> list[str]:
        """Tables for people."""
        return bench_lines(self)


def check_device(name: str) -> torch.device:
    """The device to measure on.

    Raises:
        DeviceError: There is no such card here; the message says what is missing.
    """
    if name != "cpu" and not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            f"torch {torch.__version__} was built without CUDA"
            if built is None
            else f"torch {torch.__version__} finds no card, or no driver that is new enough for CUDA {built}"
        )
        raise DeviceError(
            f"bench gpu measures on an NVIDIA card: {why} ('streamlight doctor' tells more, '--device cpu' rehearses)"
        )
    return find_device(name)


def bench_gpu(
    cases: Sequence[str] = (),
    *,
    device: str = "cuda:0",
    dtype: str = "bfloat16",
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    repeat: int = 5,
    cameras: int = CAMERAS,
    clips: Sequence[str | Path] = (),
    quick: bool = False,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
    keep: Callable[[GpuBench], None] = lambda _: None,
) -> GpuBench:
    """Measure.

    Args:
        cases: Of :data:`~streamlight.evaluation.gpu_rows.CASES`; none for all.
        device: ``cuda:N``, or ``cpu`` for a rehearsal.
        dtype: Working precision.
        size: Of synthetic frames, 1920x1080 if None.
        frames: Calls in a timed run and frames of the pipeline; None for 60 and 300.
        repeat: Timed runs; the median counts.
        cameras: In one call, where many are.
        clips: Video files that rows and pipeline are measured on as well.
        quick: Small and short, to see that everything runs.
        command: How the benchmark was called, for the record.
        progress: Told what is being done.
        keep: Given everything so far behind every case.

    Raises:
        ConfigError: A case or precision is unknown, or a number out of range.
        DeviceError: The device is not there, or nothing at all could be measured.
        MediaError: A clip cannot be read.
    """
    from streamlight.media import probe

    width, height = size or (QUICK_SIZE if quick else SIZE)
    _check(cases, dtype, (width, height, frames or 2, repeat, cameras))
    where = check_device(device)
    for clip in clips:
        probe(clip)
    base = GpuOrder(
        "row", "", str(where), dtype, width, height, frames or (3 if quick else 60), repeat, cameras, "", quick
    )
    bench = GpuBench(command, describe_machine(), str(where), base)
    with tempfile.TemporaryDirectory(prefix="streamlight-bench-") as folder:
        for order, clip in _orders(cases or CASES, bench, frames, clips, Path(folder), progress):
            progress(f"{order.case} {order.row}".strip() + (f", {clip}" if clip != SYNTHETIC else ""))
            begin = time.perf_counter()
            sample = run_case(order)
            bench.results.append(GpuResult(order.case, order.row, clip, time.perf_counter() - begin, sample))
            for part, why in sample.failed.items():
                progress(f"  failed: {part}: {why}")
            keep(bench)
    if not any(result.sample.figures for result in bench.results):
        why = next((why for result in bench.results for why in result.sample.failed.values()), "no case was begun")
        raise DeviceError(f"nothing could be measured on {where}: {why}")
    return bench


def _check(cases: Sequence[str], dtype: str, numbers: Sequence[int]) -> None:
    for case in cases:
        if case not in CASES:
            raise ConfigError(f"unknown row '{case}'{suggestion(case, list(CASES))} (rows: {', '.join(CASES)})")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be {', '.join(DTYPES)}, got '{dtype}'")
    width, height, frames, repeat, cameras = numbers
    if width < 64 or height < 64 or width % 2 or height % 2:
        raise ConfigError(f"size must be even and at least 64x64, got {width}x{height}")
    if frames < 2 or repeat < 1 or cameras < 1:
        raise ConfigError(f"expected frames >= 2, repeat >= 1 and cameras >= 1, got {frames}, {repeat}, {cameras}")


def _orders(
    cases: Sequence[str],
    bench: GpuBench,
    frames: int | None,
    clips: Sequence[str | Path],
    folder: Path,
    progress: Callable[[str], None],
) -> Iterator[tuple[GpuOrder, str]]:
    """What is measured in turn, and the name of the clip it is measured on."""
    base = bench.order
    yield replace(base, case="ceilings"), SYNTHETIC
    if "parity" in cases:
        for row in PARITY:
            yield replace(base, case="parity", row=row), SYNTHETIC
    sources = [("", SYNTHETIC), *((str(clip), Path(clip).name) for clip in clips)]
    for row in ROWS:
        if row in cases:
            for path, name in sources:
                yield replace(base, row=row, clip=path), name
    if "pipeline" in cases:
        length = frames or (12 if base.quick else PIPELINE_FRAMES)
        order = replace(base, case="pipeline", row=PIPELINE_ROW, frames=length)
        try:
            sources[0] = (str(_synthetic_clip(folder, order, progress)), SYNTHETIC)
        except Exception as error:
            bench.missing["pipeline"] = f"the synthetic clip could not be made: {reason(error)}"
            del sources[0]
        for path, name in sources:
            yield replace(order, clip=path), name


def _synthetic_clip(folder: Path, order: GpuOrder, progress: Callable[[str], None]) -> Path:
    from streamlight.evaluation.scenes import write_scene

    progress("making the synthetic clip")
    return write_scene(folder / "dark.mp4", "dark", frames=order.frames, width=order.width, height=order.height)


def run_case(order: GpuOrder, *, limit: float = LIMIT) -> GpuSample:
    """Run one case in a process of its own; if that fails, what it told until then, and why.

    Args:
        order: Which.
        limit: Seconds after which the process is ended.
    """
    command = [sys.executable, "-m", "streamlight.evaluation.gpu_case", json.dumps(asdict(order))]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, check=False)
    except subprocess.TimeoutExpired as expired:
        told = read_sample(_as_text(expired.stdout)) or GpuSample()
        told.failed["process"] = f"took longer than {limit:g} s and was ended"
        return told
    sample = read_sample(child.stdout)
    if child.returncode or sample is None:
        sample = sample or GpuSample()
        last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        ended = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        sample.failed["process"] = f"{ended}: {last}"
    return sample


def _as_text(output: str | bytes | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
