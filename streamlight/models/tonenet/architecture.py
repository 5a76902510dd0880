"""How the registry recognises and builds tonenet."""

from __future__ import annotations

from typing import Final, Literal

import torch

from streamlight.errors import ConfigError
from streamlight.models.architecture import Architecture, as_dtype, fastest_dtype
from streamlight.models.tonenet.model import CARD, Look, Tonenet
from streamlight.models.tonenet.network import TonenetConfig, TonenetNetwork, deduce, is_tonenet
from streamlight.models.weights import Weights, assemble, fingerprint


def build(
    weights: Weights,
    *,
    look: Look = "night",
    denoiser: Literal["on", "off"] = "on",
    dtype: str | torch.dtype | None = None,
) -> Tonenet:
    """Make a model from weights.

    Args:
        weights: Its tensors.
        look: ``"night"``: dark stays dark. ``"day"``: as bright as daylight.
        denoiser: ``"off"`` changes the tone only.
        dtype: Working precision of the denoiser's convolutions; None takes what this CPU is fastest in.

    Raises:
        ModelError: The weights do not fit.
        ConfigError: There is no such look.
    """
    config = deduce(weights.tensors)
    network = assemble(lambda: TonenetNetwork(config), weights)
    working = as_dtype(fastest_dtype() if dtype is None else dtype, CARD)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.denoiser.to(dtype=working)
    if denoiser not in ("on", "off"):
        raise ConfigError(f"denoiser must be on or off, got {denoiser!r}")
    return Tonenet(
        network,
        look=look,
        denoiser=denoiser == "on",
        revision=f"{fingerprint(weights.tensors)}-{working}".replace("torch.", ""),
    )


ARCHITECTURE: Final = Architecture(
    card=CARD,
    detect=is_tonenet,
    deduce=deduce,
    network=TonenetNetwork,
    build=build,
    published={"tonenet": TonenetConfig()},
)
"""Entry for the registry."""
