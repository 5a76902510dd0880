"""Pairs of dark and well-lit pictures on disk: any folder of pairs, and the layouts of published test sets.

Only test halves are read here. Nothing is downloaded; users bring the sets.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from streamlight.config import suggestion
from streamlight.errors import ConfigError, MediaError
from streamlight.media import is_image_name
from streamlight.media.inputs import natural_key

DatasetName = Literal["lol", "lolv2-real", "lolv2-syn", "velol", "sice-like"]

LOW_NAMES: Final = ("low", "input", "dark")
REFERENCE_NAMES: Final = ("high", "normal", "ref", "reference", "gt", "target")
"""Folder names in a folder of pairs, and what file names may begin with; upper and lower case alike."""

LAYOUTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "lol": (("eval15/low", "eval15/high"),),
    "lolv2-real": (("Real_captured/Test/Low", "Real_captured/Test/Normal"),),
    "lolv2-syn": (("Synthetic/Test/Low", "Synthetic/Test/Normal"),),
    "velol": (
        ("VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Low_test", "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Normal_test"),
        ("VE-LOL-L-Cap-Full/test/low", "VE-LOL-L-Cap-Full/test/high"),
    ),
    "sice-like": (("low", "ref"),),
}
"""Dataset → folders of dark and well-lit pictures below the root: as published, then as often rearranged.

``velol`` is the half of VE-LOL that was captured. ``sice-like`` has a list beside its two folders, ``pairs.csv`` with a
column ``name``: pictures have one name in both folders, and the list says which belong to the set.
"""

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


def dataset_names() -> tuple[str, ...]:
    """Names that :func:`dataset_pairs` takes."""
    return get_args(DatasetName)


def find_pairs(
    *, pairs: str | Path | None = None, dataset: str | None = None, root: str | Path | None = None
) -> tuple[str, list[Pair]]:
    """The pairs that a user asked for, and what to call them.

    Args:
        pairs: As :func:`folder_pairs` takes it; or else
        dataset: As :func:`dataset_pairs` takes it, with
        root: the folder that holds it.

    Raises:
        ConfigError: Neither or both were given, or a dataset without its folder.
        MediaError: As the two functions say.
    """
    if (pairs is None) == (dataset is None):
        raise ConfigError("give either --pairs DIR or --dataset NAME with --root DIR")
    if pairs is not None:
        if root is not None:
            raise ConfigError("--root belongs to --dataset; --pairs names its folder itself")
        return Path(pairs).resolve().name, folder_pairs(pairs)
    assert dataset is not None
    if root is None:
        raise ConfigError(f"--dataset {dataset} needs --root DIR, the folder that holds it")
    return dataset, dataset_pairs(dataset, root)


def dataset_pairs(name: str, root: str | Path) -> list[Pair]:
    """The test pairs of a published set, in natural order of their names.

    Args:
        name: One of :func:`dataset_names`.
        root: The folder that :data:`LAYOUTS` counts from.

    Raises:
        ConfigError: There is no such dataset.
        MediaError: The folders are not there, or the files in them are no pairs.
    """
    if name not in LAYOUTS:
        known = list(dataset_names())
        raise ConfigError(f"unknown dataset '{name}'{suggestion(name, known)} (datasets: {', '.join(known)})")
    root = _folder(root)
    for low, reference in LAYOUTS[name]:
        if (root / low).is_dir() and (root / reference).is_dir():
            if name == "sice-like":
                return _listed(root / "pairs.csv", root / low, root / reference)
            return match(root / low, root / reference)
    expected = " or ".join(f"{low} and {reference}" for low, reference in LAYOUTS[name])
    raise MediaError(f"{root}: is no dataset '{name}', expected the folders {expected} in it")


def folder_pairs(root: str | Path) -> list[Pair]:
    """The pairs of a folder that holds one folder of dark pictures and one of well-lit ones.

    Args:
        root: Folder with a sub-folder out of :data:`LOW_NAMES` and one out of :data:`REFERENCE_NAMES`.

    Raises:
        MediaError: The folders are not there, or the files in them are no pairs.
    """
    root = _folder(root)
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


def _folder(path: str | Path) -> Path:
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


def _listed(table: Path, low: Path, reference: Path) -> list[Pair]:
    """The pairs that a table names, in its order."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(row.get("name") or "", reader.line_num) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"cannot read {table}: {getattr(error, 'strerror', None) or error}") from error
    if "name" not in columns or not rows:
        raise MediaError(f"{table}: expected a column 'name' with one picture a line, got columns {', '.join(columns)}")
    pairs: dict[str, Pair] = {}
    for name, line in rows:
        if not name or Path(name).name != name:
            raise MediaError(
                f"{table}, line {line}: {name!r} is not the name of a file in {low.name} and {reference.name}"
            )
        for path in (low / name, reference / name):
            if not path.is_file():
                raise MediaError(f"{path}: is missing, {table.name} names it in line {line}")
        if name in pairs:
            raise MediaError(f"{table}, line {line}: {name} is listed twice")
        pairs[name] = Pair(Path(name).stem, low / name, reference / name)
    return list(pairs.values())
