"""Which models there are, and how one is opened by name or from a file."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from streamlight.errors import ModelError

if TYPE_CHECKING:
    import torch

    from streamlight.models.protocol import GenerativeModel, ModelCard

_BUILT_IN: dict[str, tuple[str, str]] = {"retinex": ("streamlight.models.retinex", "Retinex")}


def names() -> list[str]:
    """Names that :func:`load` accepts."""
    return sorted(_BUILT_IN)


def cards() -> list[ModelCard]:
    """Cards of all models in the package."""
    return [_class(name)().card for name in names()]


def load(name_or_path: str | Path, *, device: str | torch.device = "cpu") -> GenerativeModel:
    """Open a model.

    Args:
        name_or_path: One of :func:`names`, or the path of a weights file.
        device: Where it runs.

    Raises:
        ModelError: The name is unknown or the file is not one of a known architecture.
    """
    name = str(name_or_path)
    if name in _BUILT_IN:
        return _class(name)()
    if Path(name).suffix or Path(name).exists():
        raise ModelError(f"{name}: no architecture in this version reads weights files; built-in models: {_listing()}")
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelError(f"unknown model {name!r}; {hint}available: {_listing()}")


def _class(name: str) -> Callable[[], GenerativeModel]:
    module, attribute = _BUILT_IN[name]
    return getattr(import_module(module), attribute)


def _listing() -> str:
    return ", ".join(names())
