"""Night drives: recordings that the camera cut into files of one to three minutes become one video again.

With ``--join`` (part of the preset ``dashcam``) consecutive files of a folder are read as one: decisions about exposure
are carried over the cuts instead of beginning anew, sound goes on, and every frame keeps its place. The preset also
keeps oncoming headlights from washing out (:mod:`streamlight.enhance.highlights`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from streamlight.pipelines.plan import Job, Plan, plan_jobs

from streamlight.errors import ConfigError, MediaError
from streamlight.media import SourceInfo, as_path, is_image_name, probe

__all__ = ["Segment", "joined", "plan_recordings", "recordings"]

_NAME_TIME = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_. T]*([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?!\d)"
)
_OVERLAP, _PAUSE = 3.0, 5.0
"""Seconds by which the next file may begin before, or after, the end of the one before it; names tell whole seconds."""

_LONGEST = 900.0
"""Seconds that a file of unknown length may have."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a recording.

    Attributes:
        path: The file.
        kind: What all files of one recording have in common: name but for its digits, streams, size, codec.
        begin: Seconds since some origin, as name or tags tell; None where they do not.
        duration: Seconds, or None.
        number: Last number in the name, or None.
    """

    path: Path
    kind: tuple[object, ...]
    begin: float | None
    duration: float | None
    number: int | None

    @classmethod
    def of(cls, path: Path, info: SourceInfo) -> Segment:
        """The segment that a file is."""
        streams = tuple((stream.kind, stream.codec, tuple(sorted(stream.details.items()))) for stream in info.streams)
        numbers = re.findall(r"\d+", path.stem)
        return cls(
            path=path,
            kind=(path.parent, re.sub(r"\d+", "#", path.name.casefold()), info.pix_fmt, info.rotation, streams),
            begin=_begin(path, info),
            duration=None if info.duration is None else float(info.duration),
            number=int(numbers[-1]) if numbers else None,
        )

    def goes_on_in(self, other: Segment) -> bool:
        """Whether ``other`` begins where this ends: by the clock, or where there is none by the number."""
        if self.kind != other.kind:
            return False
        if self.begin is None or other.begin is None:
            return self.number is not None and other.number == self.number + 1
        step = other.begin - self.begin
        if self.duration is None:
            return 0.0 < step <= _LONGEST
        return -_OVERLAP <= step - self.duration <= _PAUSE and step > 0.0


def recordings(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Sort segments into recordings, each in its order; recordings in the order of their first files.

    Files of two cameras may alternate in a folder; they have different names or pictures and do not mix.
    """
    found: list[list[Segment]] = []
    for segment in segments:
        for recording in reversed(found):
            if recording[-1].kind == segment.kind:
                if recording[-1].goes_on_in(segment):
                    recording.append(segment)
                else:
                    found.append([segment])
                break
        else:
            found.append([segment])
    return found


def plan_recordings(inputs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Plan:
    """Like :func:`streamlight.pipelines.plan.plan_jobs`, with consecutive files joined into one job.

    A folder that holds a single recording may go into a file.

    Raises:
        ConfigError: As for ``plan_jobs``, or several recordings would go into one file.
    """
    only = as_path(inputs[0]) if len(inputs) == 1 else None
    if len(inputs) == 1 and not (only is not None and only.is_dir()):
        return plan_jobs(inputs, output)
    target = Path(output)
    single = bool(target.suffix) and not target.is_dir() and not os.fspath(output).endswith(("/", os.sep))
    plan = plan_jobs(inputs, target.parent if single else output)
    jobs: list[Job] = []
    segments: dict[Path, tuple[Segment, Job]] = {}
    for job in plan.jobs:
        path = as_path(job.source)
        if job.problem is not None or path is None or is_image_name(path):
            jobs.append(job)
            continue
        try:
            segments[path] = (Segment.of(path, probe(path)), job)
        except MediaError as error:  # a recording that was cut off before it could be closed
            jobs.append(replace(job, problem=error))
    for recording in recordings([segment for segment, _ in segments.values()]):
        first = segments[recording[0].path][1]
        parts = tuple(segment.path for segment in recording)
        jobs.append(replace(first, parts=parts) if len(parts) > 1 else first)
    if not single:
        return Plan(sorted(jobs, key=lambda job: plan.jobs.index(_same(plan, job))), plan.folder)
    good = [job for job in jobs if job.problem is None]
    if len(good) != 1:
        raise ConfigError(f"{target}: the input holds {len(good)} recordings; they need a folder as output")
    return Plan([replace(good[0], destination=target), *(job for job in jobs if job.problem is not None)], None)


def _same(plan: Plan, job: Job) -> Job:
    return next(other for other in plan.jobs if other.source == job.source)


@contextlib.contextmanager
def joined(job: Job) -> Iterator[str | Path]:
    """The one source that a job's files are read as.

    Lists them for libavformat's concat demuxer, in a temporary folder and by links with plain names, which is all that
    it takes without being told to trust the list. The list of the same files is the same whenever it is made, so that
    an interrupted job is recognised when it is resumed.

    Raises:
        MediaError: Files cannot be linked here.
    """
    if not job.parts:
        yield job.source
        return
    folder = Path(tempfile.mkdtemp(prefix="streamlight-join-"))
    try:
        yield _write_list(folder, job.parts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_list(folder: Path, parts: Sequence[Path]) -> Path:
    lines, newest = ["ffconcat version 1.0"], 0
    for number, part in enumerate(parts):
        name = f"{number:06}{re.sub(r'[^A-Za-z0-9.]', '', part.suffix)}"
        try:
            stat = part.stat()
            (folder / name).symlink_to(part.absolute())
        except OSError as error:
            raise MediaError(
                f"{part}: cannot be joined with its neighbours ({error.strerror or error}); use --no-join"
            ) from error
        lines += [f"# {stat.st_size} {stat.st_mtime_ns} {part.name!r}", f"file {name}"]
        newest = max(newest, stat.st_mtime_ns)
    path = folder / "recording.ffconcat"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    os.utime(path, ns=(newest, newest))
    return path


def _begin(path: Path, info: SourceInfo) -> float | None:
    """When a file begins, by its name or by its tags."""
    if match := _NAME_TIME.search(path.stem):
        with contextlib.suppress(ValueError):  # 2024-02-31
            year, month, day, hour, minute, second = (int(part) for part in match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    with contextlib.suppress(ValueError):
        text = info.metadata.get("creation_time", "")
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None
    return None
