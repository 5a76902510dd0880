"""Which cameras there are: addresses on the command line, or a file that lists them; a foundation like the schema.

A camera file is a configuration file with one section more::

    cameras:
      - url: rtsp://${CAMERA_USER}:${CAMERA_PASSWORD}@10.0.0.7/stream1
        name: yard
      - url: rtsp://10.0.0.8/stream1
        to: rtsp://10.0.0.2:8554/gate
    live:
      max_latency: 400

``${NAME}`` is taken from the environment, so that no password need stand in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streamlight.config import Config, load_config, read_sections, suggestion
from streamlight.errors import ConfigError

_KEYS = ("url", "name", "to", "record")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PLACEHOLDER = "{camera}"


@dataclass(frozen=True, slots=True, repr=False)
class CameraEntry:
    """One camera as the user names it.

    Attributes:
        url: Address, device or file; may hold credentials.
        name: Short, unique; for file names, metrics and events.
        to: Where its pictures are published, or None.
        record: Folder or pattern to record to, or None.
    """

    url: str
    name: str
    to: str | None = None
    record: str | None = None

    def __repr__(self) -> str:
        return f"CameraEntry({self.name!r})"  # an address can hold a password


def load_cameras(
    urls: Sequence[str] = (),
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
) -> tuple[Config, list[CameraEntry]]:
    """The configuration and the cameras of a live run.

    Args:
        urls: Cameras named directly; they come on top of those in the file.
        preset: Name of a preset.
        file: YAML file with sections of the schema and ``cameras``.
        values: Options by name, as for :func:`streamlight.config.load_config`.

    Raises:
        ConfigError: There is no camera; an entry is wrong; two cameras share a name or a destination; a variable is
            not set; or as :func:`streamlight.config.load_config` says.
    """
    sections = {} if file is None else read_sections(file)
    listed = sections.pop("cameras", [])
    config = load_config(preset=preset, sections=sections, origin=str(file or ""), values=values)
    raw = [_entry(item, f"{file}: cameras[{i}]") for i, item in enumerate(_list(listed, file))]
    raw += [{"url": url} for url in urls]
    if not raw:
        raise ConfigError("no camera given: name an address, or a file with a section 'cameras' (--config FILE)")
    names = _names(raw)
    deliver = config.deliver
    entries = [
        CameraEntry(
            url=expand(item["url"]),
            name=name,
            to=_destination(item.get("to", deliver.to), name),
            record=_destination(item.get("record", deliver.record), name),
        )
        for item, name in zip(raw, names, strict=True)
    ]
    _check_distinct([entry.to for entry in entries if entry.to], "--to")
    _check_distinct([e.record for e in entries if e.record and "%" in e.record], "--record")
    return config, entries


def expand(text: str) -> str:
    """``text`` with every ``${NAME}`` replaced from the environment.

    Raises:
        ConfigError: A variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"${{{name}}} stands in an address, but the environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _list(listed: Any, file: str | Path | None) -> list[Any]:
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ConfigError(f"{file}: 'cameras' must be a list of entries with 'url'")
    return listed


def _entry(item: Any, where: str) -> dict[str, str]:
    """An entry whose keys and values have been looked at."""
    if isinstance(item, str):
        return {"url": item}
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: must be an address or have the keys {', '.join(_KEYS)}")
    for key, value in item.items():
        if key not in _KEYS:
            known = f"(keys: {', '.join(_KEYS)})"
            raise ConfigError(f"{where}: unknown key '{key}'{suggestion(str(key), list(_KEYS))} {known}")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}.{key}: must be a text")
    if "url" not in item:
        raise ConfigError(f"{where}: 'url' is missing")
    if "name" in item and not _NAME.fullmatch(item["name"]):
        raise ConfigError(
            f"{where}.name: {item['name']!r} is not allowed, expected letters, digits, '.', '_' and '-', 64 at most"
        )
    return dict(item)


def _names(raw: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for every camera: the given one, else made of the host or the file, with a number where that is taken."""
    given = [item["name"] for item in raw if "name" in item]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ConfigError(f"two cameras have the name '{twice[0]}'; names must differ")
    taken = set(given)
    names = []
    for item in raw:
        name = item.get("name")
        if name is None:
            stem = _stem(item["url"])
            name, number = stem, 1
            while name in taken:
                number += 1
                name = f"{stem}-{number}"
            taken.add(name)
        names.append(name)
    return names


def _stem(url: str) -> str:
    """What an address is called after: its host, or the file's name; never the user's name or password."""
    try:
        name = urlsplit(url).hostname or "" if "://" in url else Path(url).stem
    except ValueError:
        name = ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60]
    return name or "camera"


def _destination(text: str | None, name: str) -> str | None:
    return None if text is None else expand(text).replace(PLACEHOLDER, name)


def _check_distinct(targets: Sequence[str], option: str) -> None:
    if len(set(targets)) != len(targets):
        raise ConfigError(f"{option}: several cameras would go to one place; put {PLACEHOLDER} into it")
