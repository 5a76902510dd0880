"""Names of recordings: taken from the clock, never taken twice, visible only when a file is complete."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av

from streamlight.errors import ConfigError, MediaError
from streamlight.media import codecs
from streamlight.media.destination import disk_errors, publish

try:
    import fcntl
except ImportError:  # no locks: leftovers of killed processes keep their hidden names
    fcntl = None  # type: ignore[assignment]

_GROWING = ".recording"
"""Ending of a file that is being written: ``.NAME.recording``."""
_CONTAINERS = ("mp4", "mov", "matroska", "mpegts")
_MOST_NAMES = 10_000
_HEADER = 1 << 16
"""Bytes below which a file without a picture is nothing but a header."""


@dataclass(slots=True)
class Claim:
    """A name that is ours: the hidden file is there, and locked for as long as this process lives.

    Attributes:
        path: Name that the finished file gets.
        partial: Name while it grows.
    """

    path: Path
    partial: Path
    _descriptor: int

    def publish(self) -> Path:
        """Give the finished file its name; a numbered one if the name was taken meanwhile."""
        path = _publish_under_free_name(self.partial, self.path)
        os.close(self._descriptor)
        return path


def check_pattern(pattern: str) -> None:
    """Refuse a name pattern that cannot work.

    Raises:
        ConfigError: Its suffix names no container that recordings can use, or it holds a directive that strftime
            does not know.
    """
    if codecs.muxer_for(pattern) not in _CONTAINERS:
        raise ConfigError(f"{Path(pattern).name}: recordings are written as mp4, mov, mkv or ts")
    try:
        _expand(pattern, 0.0)
    except ValueError as error:
        raise ConfigError(f"{pattern}: not a pattern that strftime takes ({error}); write %% for a percent") from error


def claim(pattern: str, wall_clock: float) -> Claim:
    """Take the first free name of a pattern: ``NAME.mp4``, ``NAME-2.mp4``, … Folders are made as needed.

    Args:
        pattern: File name with `time.strftime` directives, local time.
        wall_clock: Seconds since the epoch.

    Raises:
        MediaError: The folder cannot be made or written.
    """
    wanted = Path(_expand(pattern, wall_clock))
    with disk_errors(wanted):
        wanted.parent.mkdir(parents=True, exist_ok=True)
    for path in _numbered(wanted):
        partial = path.with_name(f".{path.name}{_GROWING}")
        if os.path.lexists(path):
            continue
        try:
            with disk_errors(path):
                descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except MediaError as error:
            if isinstance(error.__cause__, FileExistsError):
                continue  # another recorder's, or left by a killed one
            raise
        _lock(descriptor)
        return Claim(path, partial, descriptor)
    raise MediaError(f"{wanted}: {_MOST_NAMES} files of this name exist; put the time into the pattern, as in %H%M%S")


def recover(folder: Path) -> list[Path]:
    """Give names to the recordings in a folder that were being written when their process was killed.

    They play up to their last fragment. Files that another living process writes are locked and stay as they are; those
    that hold a header and nothing else are removed.

    Returns:
        The files' new names.
    """
    found = []
    for partial in sorted(folder.glob(f".*{_GROWING}")):
        with contextlib.suppress(OSError, MediaError):
            descriptor = os.open(partial, os.O_RDWR)
            try:
                if not _lock(descriptor):
                    continue
                wanted = partial.with_name(partial.name.removesuffix(_GROWING)[1:])
                if _has_picture(partial):
                    found.append(_publish_under_free_name(partial, wanted))
                elif os.fstat(descriptor).st_size < _HEADER:
                    partial.unlink()
            finally:
                os.close(descriptor)
    return found


def _has_picture(path: Path) -> bool:
    try:
        with av.open(f"file:{path}") as container:
            return any(packet.size for packet in container.demux(video=0))
    except (av.error.FFmpegError, IndexError):
        return False


def _publish_under_free_name(partial: Path, wanted: Path) -> Path:
    for path in _numbered(wanted):
        try:
            publish(partial, path, overwrite=False)
        except MediaError:
            if not os.path.lexists(path):
                raise
        else:
            return path
    raise MediaError(f"{wanted}: {_MOST_NAMES} files of this name exist")


def _numbered(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in range(2, _MOST_NAMES):
        yield wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")


def _expand(pattern: str, wall_clock: float) -> str:
    return time.strftime(pattern, time.localtime(wall_clock))


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
