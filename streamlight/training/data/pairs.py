"""Pairs of dark and well-lit pictures on disk: any folder of pairs, and the training halves of published sets.

Nothing is downloaded; users bring the sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamlight.errors import MediaError
from streamlight.media import is_image_name
from streamlight.media.inputs import natural_key

Layouts = Mapping[str, tuple[tuple[str, str], ...]]
"""Dataset → folders of dark and well-lit pictures below its root: as published, then as often rearranged."""

LOW_NAMES: Final = ("low", "input", "dark")
REFERENCE_NAMES: Final = ("high", "normal", "ref", "reference", "gt", "target")
"""Folder names in a folder of pairs, and what file names may begin with; upper and lower case alike."""

TRAINING_LAYOUTS: Final[Layouts] = {
    "lol": (("our485/low", "our485/high"),),
    "lolv2-real": (("Real_captured/Train/Low", "Real_captured/Train/Normal"),),
    "lolv2-syn": (("Synthetic/Train/Low", "Synthetic/Train/Normal"),),
    "velol": (
        ("VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Low_train", "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Normal_train"),
        ("VE-LOL-L-Cap-Full/train/low", "VE-LOL-L-Cap-Full/train/high"),
    ),
    "velol-syn": (
        ("VE-LOL-L-Syn/VE-LOL-L-Syn-Low_train", "VE-LOL-L-Syn/VE-LOL-L-Syn-Normal_train"),
        ("VE-LOL-L-Syn/train/low", "VE-LOL-L-Syn/train/high"),
    ),
}
"""The halves that may be trained on."""

_PREFIX: Final = re.compile(
    rf"\A(?:{'|'.join(sorted((*LOW_NAMES, *REFERENCE_NAMES), key=len, reverse=True))})[ _-]?(?=.)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One scene.

    Attributes:
        name: What the pair is called in reports: the stem of the dark picture's file.
        low: The dark picture.
        reference: The well-lit one.
    """

    name: str
    low: Path
    reference: Path


def training_pairs(root: str | Path) -> list[Pair]:
    """The pairs to train on that a folder holds.

    Args:
        root: A folder of pairs as :func:`folder_pairs` takes it, or the root of a set in :data:`TRAINING_LAYOUTS`, of
            which the training half is taken.

    Raises:
        MediaError: It is neither, holds the training halves of two sets, or the files in it are no pairs.
    """
    root = checked_folder(root)
    present = {name: found for name in TRAINING_LAYOUTS if (found := find_layout(root, TRAINING_LAYOUTS[name]))}
    if len(present) > 1:
        folders = " or ".join(str(low.parent) for low, _ in present.values())
        raise MediaError(f"{root}: holds {' and '.join(present)}; name one of them: {folders}")
    for low, reference in present.values():
        return match(low, reference)
    return folder_pairs(root)


def find_layout(root: Path, layouts: Iterable[tuple[str, str]]) -> tuple[Path, Path] | None:
    """The first layout whose two folders are there, dark and well-lit; None if there is none."""
    for low, reference in layouts:
        if (root / low).is_dir() and (root / reference).is_dir():
            return root / low, root / reference
    return None


def folder_pairs(root: str | Path) -> list[Pair]:
    """The pairs of a folder that holds one folder of dark pictures and one of well-lit ones.

    Args:
        root: Folder with a sub-folder out of :data:`LOW_NAMES` and one out of :data:`REFERENCE_NAMES`.

    Raises:
        MediaError: The folders are not there, or the files in them are no pairs.
    """
    root = checked_folder(root)
    found = []
    for role, names in (("dark", LOW_NAMES), ("well-lit", REFERENCE_NAMES)):
        folders = [entry for entry in _entries(root) if entry.is_dir() and entry.name.lower() in names]
        if len(folders) != 1:
            there = f"there are {' and '.join(f.name for f in folders)}" if folders else "there is none"
            raise MediaError(f"{root}: expected one folder of {role} pictures ({', '.join(names)}), {there}")
        found += folders
    return match(*found)


def match(low: str | Path, reference: str | Path) -> list[Pair]:
    """Pair the pictures of two folders by their names, whatever their suffixes.

    Names are compared as they are; where they differ, without the word for their role in front, so that
    ``low00690.png`` belongs to ``normal00690.png``.

    Args:
        low: Folder of dark pictures.
        reference: Folder of well-lit pictures.

    Raises:
        MediaError: A folder cannot be read or holds no pictures, a picture has no partner, or two have one name.
    """
    sides = [_by_stem(Path(low)), _by_stem(Path(reference))]
    if sides[0].keys() != sides[1].keys():
        sides = [_without_prefix(side) for side in sides]
    dark, lit = sides
    for mine, other, folder in ((dark, lit, reference), (lit, dark, low)):
        alone = [mine[key] for key in mine if key not in other]
        if alone:
            more = f" ({len(alone)} of {len(mine)} have none)" if len(alone) > 1 else ""
            raise MediaError(f"{alone[0]}: has no partner in {folder}{more}; names must be the same in both folders")
    return [Pair(dark[key].stem, dark[key], lit[key]) for key in sorted(dark, key=natural_key)]


def checked_folder(path: str | Path) -> Path:
    """A folder that exists.

    Raises:
        MediaError: It does not exist, or is a file.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise MediaError(f"{folder}: {'is no folder' if folder.exists() else 'does not exist'}, expected a folder")
    return folder


def _by_stem(folder: Path) -> dict[str, Path]:
    files = [e for e in _entries(folder) if is_image_name(e) and not e.name.startswith(".") and e.is_file()]
    if not files:
        raise MediaError(f"{folder}: holds no pictures")
    return _unique((file.stem, file) for file in files)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MediaError(f"cannot read {folder}: {error.strerror or error}") from error


def _without_prefix(side: dict[str, Path]) -> dict[str, Path]:
    return _unique((_PREFIX.sub("", stem), path) for stem, path in side.items())


def _unique(items: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for key, path in items:
        if found.setdefault(key, path) is not path:
            raise MediaError(f"{found[key]} and {path.name} would be one picture of a pair; rename or remove one")
    return found
