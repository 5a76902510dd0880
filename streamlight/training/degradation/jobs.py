"""Which output belongs to which input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from streamlight.errors import ConfigError, MediaError
from streamlight.media import as_path, disk_errors, is_image_name, list_inputs, redact
from streamlight.media.codecs import CODECS_OF, MUXERS
from streamlight.training.degradation.radiance import is_radiance_name


@dataclass(frozen=True, slots=True)
class Job:
    """One input, its dark output, and the output of its target if one is wanted."""

    source: Path
    low: Path
    target: Path | None


def plan(
    source: str | os.PathLike[str], output: str | os.PathLike[str], target: str | os.PathLike[str] | None
) -> tuple[list[Job], bool]:
    """Match inputs to outputs, and make the output folders of a batch.

    Returns:
        The jobs, and whether they are a batch.

    Raises:
        ConfigError: The input is no file, outputs would get one name, or a folder is to go into a file.
        MediaError: The input does not exist, or holds nothing usable.
    """
    path = as_path(source)
    if path is None:
        raise ConfigError(f"{redact(os.fspath(source))}: degrade works on files; save the stream to a file first")
    if not path.is_dir():
        if path.exists() and not path.is_file():
            raise MediaError(f"'{path}' is a pipe or a device, which can be read only once; save it to a file first")
        if not path.exists():
            raise MediaError(f"'{path}' does not exist")
        low = _place(path, output)
        job = Job(path, low, None if target is None else _place(path, target))
        _check([job])
        return [job], False
    folders = [Path(folder) for folder in (output, target) if folder is not None]
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file; a folder as input needs a folder as output")
    found = _inside(path)
    jobs = [
        Job(file, Path(output) / _name(file), None if target is None else Path(target) / _name(file)) for file in found
    ]
    _check(jobs)
    for folder in folders:
        with disk_errors(folder / "x"):
            folder.mkdir(parents=True, exist_ok=True)
    return jobs, True


def _place(source: Path, output: str | os.PathLike[str]) -> Path:
    """The output file: as named, or in the folder that is named."""
    folder = os.fspath(output).endswith(("/", os.sep)) or Path(output).is_dir()
    return Path(output) / _name(source) if folder else Path(output)


def _name(source: Path) -> str:
    """The name in an output folder: stills lossless, clips in a container that holds every codec drawn."""
    suffix = source.suffix.lower()
    if is_image_name(source) or is_radiance_name(source):
        return source.stem + ".png"
    return source.name if "h264" in CODECS_OF.get(MUXERS.get(suffix, ""), ()) else source.stem + ".mkv"


def _inside(folder: Path) -> list[Path]:
    """Usable files of a folder: what `enhance` takes, and radiance maps."""
    try:
        maps = sorted(
            entry
            for entry in folder.iterdir()
            if is_radiance_name(entry) and not entry.name.startswith(".") and entry.is_file()
        )
    except OSError as error:
        raise MediaError(f"cannot read '{folder}': {error.strerror or error}") from error
    try:
        return [*(Path(item) for item in list_inputs(folder)), *maps]
    except MediaError:
        if maps:
            return maps
        raise


def _check(jobs: list[Job]) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        for path in (job.low, job.target):
            if path is None:
                continue
            key = os.path.normcase(os.path.abspath(path))
            other = taken.setdefault(key, job)
            if other is not job:
                raise ConfigError(
                    f"'{job.source}' and '{other.source}' would both be written to {path}; "
                    "rename one or degrade them apart"
                )
        if job.target is not None and os.path.abspath(job.low) == os.path.abspath(job.target):
            raise ConfigError(f"{job.low}: the dark picture and its target need different names")
