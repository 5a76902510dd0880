"""Which enhancer a model and the user's settings call for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from streamlight.enhance.auto import AutoEnhancer
from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.direct import DirectEnhancer
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.errors import ConfigError, DeviceError
from streamlight.models import load
from streamlight.models.precision import exact_float32
from streamlight.models.protocol import GenerativeModel

Mode = Literal["auto", "guided", "direct"]


def build_enhancer(
    model: str | Path | GenerativeModel = "tonenet",
    *,
    device: str = "cpu",
    mode: Mode = "auto",
    settings: EnhanceSettings | None = None,
    **keywords: Any,
) -> Enhancer:
    """Make an enhancer.

    Args:
        model: Name or weights file, as :func:`streamlight.load` takes it, or a loaded model.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. ``"auto"`` takes a card for models on RGB pictures,
            and leaves those for small copies on the CPU, which is fast enough and gives every machine the same file.
        mode: ``"guided"``: the model decides on a small copy. ``"direct"``: it sees every pixel, which models made for
            small copies do not. ``"auto"``: guided for those; for all others direct up to
            :attr:`EnhanceSettings.direct_limit` pixels a frame and guided above.
        settings: What the user set.
        keywords: What the kind of model offers, for example ``temperature``; handed to :func:`streamlight.load`.

    Raises:
        ModelError: Unknown model, or unreadable weights.
        DeviceError: The device is not there.
        ConfigError: A setting is out of range, the model does not have it, or the mode does not suit the model.
    """
    where = find_device(device)
    if where.type == "cuda":
        exact_float32()
    loaded = load(model, device=where, **keywords) if isinstance(model, str | Path) else model
    small = loaded.card.color == "ycbcr"
    if small and device == "auto" and where.type != "cpu":
        where = torch.device("cpu")
        move = getattr(loaded, "to", None)
        loaded = loaded if move is None else move(where)
    if small and mode == "direct":
        raise ConfigError(f"model {loaded.card.name!r} decides on small copies: it runs in guided mode only")
    settings = settings or EnhanceSettings()
    if small or mode == "guided":
        return GuidedEnhancer(loaded, settings, device=where)
    direct = DirectEnhancer(loaded, settings, device=where)
    return direct if mode == "direct" else AutoEnhancer(direct, GuidedEnhancer(loaded, settings, device=where))


def find_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first CUDA device, if there is one."""
    cards = torch.cuda.device_count()
    if name == "auto":
        name = "cuda:0" if cards else "cpu"
    try:
        device = torch.device("cuda:0" if name == "cuda" else name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= cards:
        there = f"only {cards}" if cards else "no"
        raise DeviceError(
            f"device {name!r}: there is {there} CUDA device here; use 'cpu' ('streamlight doctor' tells more)"
        )
    return device
