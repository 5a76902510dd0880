"""Which output belongs to which input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamlight.errors import ConfigError, MediaError
from streamlight.media import as_path, is_image_name, list_inputs, redact
from streamlight.media.codecs import MUXERS
from streamlight.media.stills import STILL_FORMATS


@dataclass(frozen=True, slots=True)
class Job:
    """One input and its output.

    Attributes:
        source: File, or network address.
        destination: Output file.
        problem: Why this input cannot be worked on, known already while planning.
        remark: What the user should know about the output's name.
        parts: Files that are read as one, of which ``source`` is the first; empty for a file by itself.
    """

    source: str | Path
    destination: Path
    problem: MediaError | None = None
    remark: str | None = None
    parts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call of ``enhance`` has to do.

    Attributes:
        jobs: In order.
        folder: The output folder of a batch; None for a single file.
    """

    jobs: list[Job]
    folder: Path | None


def plan_jobs(inputs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Plan:
    """Match inputs to outputs.

    A single file goes to the output file, or under its own name into the output folder if that is one (exists, or is
    written with a separator at its end). Folders and several inputs go into the output folder under their own names.
    A name whose suffix cannot be written gets ``.mkv`` (images: ``.png``) instead.

    Raises:
        ConfigError: There is no input, several inputs would get one name, or a batch is to go into a file.
    """
    if not inputs:
        raise ConfigError("no input given")
    target = Path(output)
    names_folder = os.fspath(output).endswith(("/", os.sep)) or target.is_dir()
    only = as_path(inputs[0]) if len(inputs) == 1 else None
    batch = len(inputs) > 1 or (only is not None and only.is_dir())
    if not batch and not names_folder:
        return Plan([Job(inputs[0] if only is None else only, target)], None)  # type: ignore[arg-type]
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file; several inputs need a folder as output")
    jobs = [job for item in inputs for job in _expand(item, target)]
    taken: dict[str, Job] = {}
    for job in jobs:
        other = taken.setdefault(os.path.normcase(job.destination.name), job)
        if other is not job:
            raise ConfigError(
                f"'{redact(job.source)}' and '{redact(other.source)}' would both be written to {job.destination}; "
                "rename one or run them apart"
            )
    return Plan(jobs, target)


def _expand(item: str | os.PathLike[str], folder: Path) -> list[Job]:
    try:
        found = list_inputs(item)
    except MediaError as error:
        return [Job(Path(item), folder / Path(item).name, problem=error)]
    return [_into(source, folder) for source in found]


def _into(source: str | Path, folder: Path) -> Job:
    name = source.name if isinstance(source, Path) else source.rstrip("/").rsplit("/", 1)[-1].split("?")[0] or "stream"
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in (STILL_FORMATS if is_image_name(name) else MUXERS):
        return Job(source, folder / name)
    changed = stem + (".png" if is_image_name(name) else ".mkv")
    return Job(source, folder / changed, remark=f"{suffix or 'no suffix'} cannot be written, so this is {changed}")
