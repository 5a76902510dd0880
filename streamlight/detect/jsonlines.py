"""Events as JSON Lines: one object a line, in a file or on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import BinaryIO, cast

from streamlight.detect.detection import DetectionEvent
from streamlight.detect.sink import CAPACITY, BufferedSink, Undelivered
from streamlight.errors import MediaError


def json_line(event: DetectionEvent) -> bytes:
    """The event as one line of UTF-8, newline included."""
    return json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False).encode() + b"\n"


class JsonLinesSink(BufferedSink):
    """Appends a line per event; every line is handed to the system at once and is whole, also when the disk fills up.

    A file that was moved or removed meanwhile (log rotation) is made anew under its name.

    Args:
        path: The file, or ``"-"`` for stdout.
        overwrite: Whether to begin with an empty file; otherwise lines are appended.
        capacity: See :class:`BufferedSink`.

    Raises:
        MediaError: The file cannot be opened for writing.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, capacity: int = CAPACITY) -> None:
        super().__init__(os.fspath(path), capacity=capacity)
        self._path = None if os.fspath(path) == "-" else Path(path)
        self._file: BinaryIO | None = None
        if self._path is not None:
            try:
                self._file = _opened(self._path, "wb" if overwrite else "ab")
            except OSError as error:
                raise MediaError(f"events file {self._path}: cannot be written: {error.strerror or error}") from error

    def _deliver(self, event: DetectionEvent) -> None:
        line = json_line(event)
        if self._path is None:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            return
        try:
            self._append(line, self._current(self._path))
        except OSError as error:
            raise Undelivered(f"{self._path}: {error.strerror or error}") from error

    def _current(self, path: Path) -> BinaryIO:
        """The file that now has the name."""
        if self._file is not None:
            have = os.fstat(self._file.fileno())
            with contextlib.suppress(OSError):
                now = os.stat(path)
                if (now.st_dev, now.st_ino) == (have.st_dev, have.st_ino):
                    return self._file
            self._file.close()
            self._file = None
        self._file = _opened(path, "ab")
        return self._file

    def _append(self, line: bytes, file: BinaryIO) -> None:
        before = file.seek(0, os.SEEK_END) if file.seekable() else None
        try:
            view = memoryview(line)
            while view:
                view = view[file.write(view) :]
        except OSError:
            if before is not None:
                with contextlib.suppress(OSError):
                    file.truncate(before)  # no half lines
            raise

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path, mode: str) -> BinaryIO:
    return cast(BinaryIO, open(path, mode, buffering=0))
