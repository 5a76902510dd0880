"""What there is to enhance behind a name on the command line: a file, or everything usable in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path

from streamlight.errors import MediaError
from streamlight.media.urls import as_path

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".pbm"})
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv",
        ".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".h264", ".264", ".h265", ".265", ".hevc", ".y4m", ".nut",
        ".dv", ".ivf", ".obu", ".mjpeg", ".mjpg", ".gif", ".apng", ".divx", ".f4v", ".m2v", ".rm", ".rmvb",
    }
)  # fmt: skip


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key that orders ``img2`` before ``img10``, without regard to case (which only settles ties)."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts], name


def list_inputs(path: str | PathLike[str]) -> list[Path | str]:
    """Expand a file, folder or network address into the inputs behind it.

    A folder gives its video and image files (told by suffix; hidden files and sub-folders are left out), sorted
    naturally. Every one is an input of its own: images in one folder may differ in size and are not a sequence.

    Returns:
        Paths, or the network address as it is.

    Raises:
        MediaError: The path does not exist, or the folder holds no videos or images.
    """
    folder = as_path(path)
    if folder is None:
        return [fspath(path)]
    try:
        if not folder.is_dir():
            if not folder.exists():
                raise MediaError(f"'{folder}' does not exist")
            return [folder]
        found = _media_in(folder.iterdir())
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot read '{folder}': {getattr(error, 'strerror', None) or error}") from error
    if not found:
        raise MediaError(f"the folder '{folder}' holds no video or image files")
    return list(found)


def is_image_name(path: str | PathLike[str]) -> bool:
    """Whether the suffix is that of a still-image format."""
    return Path(fspath(path)).suffix.lower() in IMAGE_SUFFIXES


def _media_in(entries: Iterable[Path]) -> list[Path]:
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    files = (e for e in entries if e.suffix.lower() in known and not e.name.startswith(".") and e.is_file())
    return sorted(files, key=lambda entry: natural_key(entry.name))
