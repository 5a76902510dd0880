"""The test halves of published sets of dark and well-lit pictures. Nothing is downloaded; users bring the sets."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final, Literal, get_args

from streamlight.config import suggestion
from streamlight.errors import ConfigError, MediaError
from streamlight.training.data.pairs import Layouts, Pair, checked_folder, find_layout, folder_pairs, match

DatasetName = Literal["lol", "lolv2-real", "lolv2-syn", "velol", "sice-like"]

LAYOUTS: Final[Layouts] = {
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
    root = checked_folder(root)
    found = find_layout(root, LAYOUTS[name])
    if found is not None:
        return _listed(root / "pairs.csv", *found) if name == "sice-like" else match(*found)
    expected = " or ".join(f"{low} and {reference}" for low, reference in LAYOUTS[name])
    raise MediaError(f"{root}: is no dataset '{name}', expected the folders {expected} in it")


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
