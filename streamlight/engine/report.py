"""What a job did, as values: every loss, fallback and figure, ready for JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from streamlight.engine.pipeline import PipelineStats

Status = Literal["done", "already-done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know, as a value that programs can act on.

    Attributes:
        code: Short, stable, kebab-case name, for example ``"stream-not-carried"``.
        message: One sentence for people.
    """

    code: str
    message: str


@dataclass(slots=True)
class Report:
    """The account of one job. All counts include what earlier runs of a resumed job did; times are of this run.

    Attributes:
        input: Path or URL (without credentials) read.
        output: Path written, or None.
        status: ``"done"``, ``"already-done"`` (a finished output was found on ``--resume``), ``"interrupted"`` or
            ``"failed"``.
        error: The message of the error that ended a failed job.
        frames: ``in`` (decoded), ``out`` (written), ``damaged`` (decoder concealed errors), ``resumed`` (done by
            earlier runs).
        dropped: Frames lost on the way, by cause. Empty when nothing was lost.
        source: Counters of the reader that are not zero: damaged packets, missing timestamps, deinterlaced frames and
            the like, by name. Of this run alone, in a resumed job.
        streams_carried: Streams and other content copied unchanged, in words.
        streams_not_carried: ``{"what": ..., "why": ...}`` for everything the output cannot hold.
        codecs: Decoder, encoder, pixel formats and containers really used.
        fallbacks: What was asked for or preferred but not available, and what was used instead.
        media_seconds: Time of the source that this run enhanced, from timestamps.
        wall_seconds: Elapsed time.
        cpu_seconds: CPU time of the whole process, all threads.
        fps: Frames written by this run per elapsed second.
        stages: Per stage ``name``, ``items_in``, ``items_out``, ``busy``, ``wait_in``, ``wait_out`` (seconds).
        latency: ``count``, ``p50``, ``p95``, ``p99``, ``max`` in seconds, from reading a frame's packet to handing
            the frame to the encoder.
        device: What went over the link to a device: pictures and bytes ``up`` and ``down``, ``surfaces`` (decoded
            there), ``copied_out`` (copied once more on the host), bytes ``pinned``, and the peak of its memory. Empty
            where everything was done on the host.
        peak_memory_bytes: Largest resident size of this process so far.
        warnings: Everything worth knowing that did not stop the job.
        settings: The configuration in force.
        versions: Versions of what decides the result.
    """

    input: str
    output: str | None = None
    status: Status = "failed"
    error: str | None = None
    frames: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    source: dict[str, int] = field(default_factory=dict)
    streams_carried: list[str] = field(default_factory=list)
    streams_not_carried: list[dict[str, str]] = field(default_factory=list)
    codecs: dict[str, str] = field(default_factory=dict)
    fallbacks: list[str] = field(default_factory=list)
    media_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    fps: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)
    latency: dict[str, float] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    warnings: list[Notice] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def warn(self, code: str, message: str) -> None:
        """Add a warning once."""
        notice = Notice(code, message)
        if notice not in self.warnings:
            self.warnings.append(notice)

    def add_pipeline(self, stats: PipelineStats) -> None:
        """Take over the figures of a pipeline run."""
        self.stages = [dataclasses.asdict(stage) for stage in stats.stages]
        self.latency = stats.latency.summary()
        for cause, count in stats.dropped.items():
            self.dropped[cause] = self.dropped.get(cause, 0) + count

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and finite numbers."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as a JSON document."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)


def to_plain(value: Any) -> Any:
    """Make a value fit for JSON.

    Dataclasses become dictionaries, fractions the string ``"num/den"``, numbers that are not finite None; anything
    unknown becomes its text.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Fraction | Path):
        return str(value)
    if hasattr(value, "item"):  # NumPy scalars
        return to_plain(value.item())
    return str(value)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes; 0 where the system does not say."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if os.name != "posix":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
