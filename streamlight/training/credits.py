"""Who is to be thanked for what a recipe trains on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from streamlight.errors import ConfigError, MediaError
from streamlight.models.record import Credit
from streamlight.training.data.materials import find, relative
from streamlight.training.recipe import read_recipe

TABLE = "CREDITS.csv"
_COLUMNS = ("file", "author", "licence", "source")


def credits_of(recipes: Sequence[str | Path], data: str | Path) -> list[Credit]:
    """Author, licence and source of every file that some recipes train on, in the order of their names.

    Args:
        recipes: YAML files.
        data: Folder that their paths are relative to; holds ``CREDITS.csv`` with the columns file, author, licence and
            source.

    Raises:
        ConfigError: A recipe is wrong, or the table does not name a file.
        MediaError: A folder or the table cannot be read.
    """
    root = Path(data)
    known = _read(root / TABLE)
    used: set[str] = set()
    for recipe in recipes:
        found = find(read_recipe(recipe).data, root)
        used |= {material.name for material in found.materials}
        used |= {relative(path, root) for pair in found.pairs for path in (pair.low, pair.reference)}
    unnamed = sorted(used - set(known))
    if unnamed:
        more = f" and {len(unnamed) - 1} more files" if len(unnamed) > 1 else ""
        raise ConfigError(f"{root / TABLE}: does not name {unnamed[0]}{more}; every training file needs its credit")
    return [known[name] for name in sorted(used)]


def _read(table: Path) -> dict[str, Credit]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise MediaError(
                    f"{table}: expected the columns {', '.join(_COLUMNS)}, got {', '.join(reader.fieldnames or ())}"
                )
            return {row["file"]: Credit(*((row[column] or "").strip() for column in _COLUMNS)) for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"cannot read {table}: {getattr(error, 'strerror', None) or error}") from error
