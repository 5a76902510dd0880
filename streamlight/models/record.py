"""What belongs to a weights file and is too long for its metadata: credits of what it was trained on, and figures.

It lies beside the file as JSON under the same name. Nothing in it is typed by hand: ``streamlight models credit``
writes training and credits, ``streamlight evaluate table --cards`` writes figures.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from streamlight.errors import ModelError


@dataclass(frozen=True, slots=True)
class Credit:
    """Where a training file comes from.

    Attributes:
        file: Its name in the folder of the data.
        author: Who made it.
        licence: Under which it may be used.
        source: Where it was found.
    """

    file: str
    author: str
    licence: str
    source: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of the weights.

    Attributes:
        sha256: Of the weights file that was measured.
        command: What measured them.
        machine: On what, in lines.
        macs: Multiply-accumulates of a frame; None where they were not counted.
        macs_of: Size of that frame.
        lines: The figures in words.
    """

    sha256: str
    command: str
    machine: tuple[str, ...]
    macs: int | None
    macs_of: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a weights file.

    Attributes:
        sha256: Of the file that it was written for.
        recipes: Names of the training recipes, in the order they were run.
        steps: Optimiser steps of the last of them; None where the file does not say.
        note: What a user should know, for example that training was not finished.
        credits: Of all training files.
        measured: Figures, if there are any.
    """

    sha256: str
    recipes: tuple[str, ...] = ()
    steps: int | None = None
    note: str = ""
    credits: tuple[Credit, ...] = ()
    measured: Measured | None = None

    def lines(self, *, digest: str) -> list[tuple[str, str]]:
        """The record in words, as (heading, text); credits are summed up.

        Args:
            digest: SHA-256 of the weights file there is. What was said of another one is not told.
        """
        if self.sha256 != digest:
            return [("record", "is about other weights than these: nothing is told of them")]
        facts = []
        if self.recipes:
            steps = f", {self.steps:,} steps" if self.steps is not None else ""
            facts.append(("trained by", " then ".join(self.recipes) + steps))
        if self.note:
            facts.append(("note", self.note))
        if self.credits:
            authors = len({credit.author for credit in self.credits})
            facts.append(("credits", f"{len(self.credits)} files by {authors} authors, all in --json"))
            licences = Counter(credit.licence for credit in self.credits).most_common()
            facts += [("", f"{count} under {licence}") for licence, count in licences]
        if self.measured is not None and self.measured.sha256 == digest:
            facts += _measured(self.measured)
        return facts

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def _measured(found: Measured) -> list[tuple[str, str]]:
    facts = []
    if found.macs is not None:
        facts.append(("MACs", f"{found.macs:,} for a frame of {found.macs_of}"))
    facts += [("" if number else "measured", line) for number, line in enumerate(found.lines)]
    facts.append(("by", found.command))
    return [*facts, *(("" if number else "on", line) for number, line in enumerate(found.machine))]


def record_path(weights: str | os.PathLike[str]) -> Path:
    """Where the record of a weights file lies."""
    return Path(weights).with_suffix(".json")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_record(weights: str | os.PathLike[str]) -> Record | None:
    """The record of a weights file, None where there is none.

    Raises:
        ModelError: There is one, but it cannot be read.
    """
    path = record_path(weights)
    try:
        plain = json.loads(path.read_text("utf-8"))
        measured = plain.pop("measured", None)
        return Record(
            **{**plain, "recipes": tuple(plain.get("recipes", ()))}
            | {"credits": tuple(Credit(**credit) for credit in plain.get("credits", ()))}
            | {"measured": None if measured is None else _read_measured(measured)}
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: is no record of a weights file ({error}); write it anew with 'streamlight models credit'"
        ) from error


def write_record(weights: str | os.PathLike[str], record: Record) -> Path:
    """Write the record of a weights file beside it.

    Raises:
        ModelError: It cannot be written.
    """
    path = record_path(weights)
    part = path.with_suffix(".json.part")
    try:
        part.write_text(json.dumps(record.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def record_credits(
    weights: str | os.PathLike[str],
    *,
    recipes: Iterable[str],
    credits: Iterable[Credit],
    steps: int | None = None,
    note: str = "",
) -> Path:
    """Write what a file was trained on; figures of the same weights are kept.

    Raises:
        ModelError: The file is missing, or the record cannot be written.
    """
    digest = _digest(weights)
    before = read_record(weights)
    measured = before.measured if before is not None and before.sha256 == digest else None
    return write_record(weights, Record(digest, tuple(recipes), steps, note, tuple(credits), measured))


def record_measured(weights: str | os.PathLike[str], measured: Measured) -> Path:
    """Write figures; credits are kept.

    Raises:
        ModelError: The file is missing or there is no record of it, or the record cannot be written.
    """
    return write_record(weights, replace(credited(weights), measured=measured))


def credited(weights: str | os.PathLike[str]) -> Record:
    """The record of the weights that there are.

    Raises:
        ModelError: The file is missing, or there is no record of it.
    """
    found = read_record(weights)
    if found is None or found.sha256 != _digest(weights):
        raise ModelError(
            f"{record_path(weights)}: has no credits of these weights; run 'streamlight models credit' first"
        )
    return found


def _read_measured(plain: dict[str, Any]) -> Measured:
    return Measured(**{**plain, "machine": tuple(plain["machine"]), "lines": tuple(plain["lines"])})


def _digest(weights: str | os.PathLike[str]) -> str:
    try:
        return file_digest(weights)
    except OSError as error:
        raise ModelError(f"{os.fspath(weights)}: cannot be read: {error.strerror or error}") from error
