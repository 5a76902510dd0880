"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlight.errors import ConfigError
from streamlight.media import disk_errors


@contextmanager
def sole_user(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keep other processes out of a folder, until the end of the block or of this process.

    Args:
        folder: Made if missing.
        wait: Whether to wait for another process, or to refuse.

    Raises:
        ConfigError: Another process is at work there, and we do not wait.
        MediaError: The folder cannot be written.
    """
    path = folder / ".lock"
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 (closed below)
    with file:
        try:
            import fcntl
        except ImportError:  # a system without this kind of lock
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: another process is training there; choose another folder") from error
        yield
