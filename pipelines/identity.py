"""What a job is made of: the input file, the settings, the model, the versions that decide the bits."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from streamlight.config import Config
from streamlight.errors import MediaError
from streamlight.media import as_path, library_versions, redact

_SAMPLE = 1 << 16
_PACKAGES = ("streamlight", "av", "torch", "numpy", "numba", "opencv-python-headless")
"""The packages whose version can change a pixel."""


@cache
def versions() -> dict[str, str]:
    """Versions of what decides the bits of the output."""
    found = library_versions()
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def input_identity(source: str | os.PathLike[str]) -> dict[str, Any]:
    """What tells one input from another: size, modification time, hash of head and tail.

    The folder is not part of it, so that a job may be moved together with its input.

    Raises:
        MediaError: The file cannot be read.
    """
    path = as_path(source)
    if path is None:
        return {"address": redact(os.fspath(source))}
    try:
        stat = path.stat()
        with open(path, "rb") as file:
            head = file.read(_SAMPLE)
            file.seek(max(0, stat.st_size - _SAMPLE))
            tail = file.read(_SAMPLE)
    except OSError as error:
        raise MediaError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return {
        "name": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "head": hashlib.sha256(head).hexdigest()[:24],
        "tail": hashlib.sha256(tail).hexdigest()[:24],
    }


def job_identity(source: str | os.PathLike[str], config: Config, model: dict[str, Any]) -> dict[str, Any]:
    """The identity of a job, as it reads after a round trip through JSON.

    Args:
        source: The input.
        config: The configuration in force.
        model: The enhancer's own identity.
    """
    identity = {
        "input": input_identity(source),
        "setting": config.identity(),
        "model": model,
        "version of": versions(),
    }
    weights = config.model.weights or config.model.name
    if Path(weights).is_file():
        identity["weights"] = input_identity(weights)
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain
