"""Class names: from a file, from a model's metadata, or assumed from the number of classes."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from streamlight.errors import ConfigError

_COCO: Final = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO: Final = tuple(_COCO.split(","))
"""The 80 classes of COCO, in the order that detectors number them."""

_UNUSED: Final = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Category numbers up to 90 that COCO does not use; DETR counts by category numbers."""

_METADATA_KEYS: Final = ("names", "classes", "labels", "class_names", "id2label")


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names from a file: one a line; or JSON or YAML with a list, a mapping from numbers, or one under ``names``.

    Raises:
        ConfigError: It cannot be read, or holds no names.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text file"
        raise ConfigError(f"class names {file}: cannot be read ({reason}); expected one name a line") from error
    found: tuple[str, ...] | None
    if file.suffix.lower() in (".json", ".yaml", ".yml"):
        try:
            data = yaml.safe_load(text)  # JSON is YAML
        except yaml.YAMLError as error:
            raise ConfigError(f"class names {file}: is no valid {file.suffix[1:].upper()} ({error})") from error
        if isinstance(data, Mapping):
            data = next((data[key] for key in _METADATA_KEYS if key in data), data)
        found = _as_names(data)
    else:
        found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not found:
        raise ConfigError(f"class names {file}: holds none; expected one name a line, or a list under 'names'")
    return found


def names_in_metadata(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names as exporters write them into a model: a Python or JSON mapping or list, or a comma-separated line."""
    for key in _METADATA_KEYS:
        text = metadata.get(key, "").strip()
        if not text:
            continue
        for parse in (json.loads, ast.literal_eval):
            try:
                found = _as_names(parse(text))
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if found:
                return found
        separated = [name.strip() for name in text.replace("\n", ",").split(",") if name.strip()]
        if separated and text[0] not in "[{":
            return tuple(separated)
    return None


def assumed_names(classes: int) -> tuple[str, ...] | None:
    """COCO's names for 80 classes, or for 91 counted by category number; None for other numbers."""
    if classes == len(COCO):
        return COCO
    if classes == 91:
        rest = iter(COCO)
        return tuple(f"unused {number}" if number in _UNUSED else next(rest) for number in range(91))
    return None


def _as_names(data: Any) -> tuple[str, ...] | None:
    """Names from a list, or from a mapping whose keys count from 0; None from anything else."""
    if isinstance(data, Mapping):
        try:
            numbered = {int(key): str(value) for key, value in data.items()}
        except (TypeError, ValueError):
            return None
        if sorted(numbered) != list(range(len(numbered))):
            return None
        return tuple(numbered[number] for number in range(len(numbered)))
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return tuple(str(value) for value in data)
    return None
