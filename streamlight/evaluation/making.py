"""Test material that is made here and not shipped: where it is put, and when what lies there may be used again."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from streamlight.errors import MediaError

_CODE = (
    ("streamlight.training.degradation", "*.py"),
    ("streamlight.evaluation", "making.py"),
    ("streamlight.evaluation", "synthetic.py"),
    ("streamlight.evaluation", "darkened.py"),
    ("streamlight.enhance", "color.py"),
    *(("streamlight.media", name) for name in ("recode.py", "encode.py", "packer.py", "clips.py")),
)
"""Package and files that decide what is made."""


def generator(*words: str) -> torch.Generator:
    """Random numbers for one thing by its name: those of its neighbours do not matter."""
    seed = hashlib.sha256("/".join(words).encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(seed, "big") >> 1)


def digest(*parts: Any) -> str:
    """SHA-256 of plain values, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def made(name: str, key: str, make: Callable[[Path], None], *, cache: str | Path | None = None) -> Iterator[Path]:
    """A folder that ``make`` has filled.

    Args:
        name: Of the folder, for people.
        key: Digest of all that decides the content, code aside.
        make: Fills an empty folder.
        cache: Folder in which it is kept and found again. Without one it lives until the block ends.

    Raises:
        MediaError: The cache cannot be written.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix=f"streamlight-{name}-") as folder:
            make(Path(folder))
            yield Path(folder)
        return
    final = Path(cache) / f"{name}-{digest(key, _code_digest())[:16]}"
    if not final.is_dir():
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        except OSError as error:
            raise MediaError(f"{cache}: cannot keep test material there: {error.strerror or error}") from error
        try:
            make(part)
            if not final.is_dir():
                part.rename(final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    yield final


@cache
def _code_digest() -> str:
    """Of the code that makes things, so that a change of it makes them anew."""
    found = hashlib.sha256()
    for package, pattern in _CODE:
        root = resources.files(package)
        for file in sorted((f for f in root.iterdir() if Path(f.name).match(pattern)), key=lambda f: f.name):
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
