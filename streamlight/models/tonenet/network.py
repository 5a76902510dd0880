"""Both networks of tonenet, and how their widths are read off a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from streamlight.errors import ModelError
from streamlight.models.tonenet.denoiser import Denoiser
from streamlight.models.tonenet.tone import ToneNet

_STAGE: Final = re.compile(r"tone\.stages\.(\d+)\.weight$")


@dataclass(frozen=True, slots=True)
class TonenetConfig:
    """Hyper-parameters.

    Attributes:
        stages: Channels of the tone network's four stages.
        hidden: Width of its head.
        widths: Channels of the denoiser at 1/2, 1/4 and 1/8 of the small copy.
    """

    stages: tuple[int, int, int, int] = (16, 24, 32, 48)
    hidden: int = 96
    widths: tuple[int, int, int] = (16, 32, 48)


class TonenetNetwork(nn.Module):
    """The tone network and the denoiser.

    Args:
        config: Hyper-parameters.
    """

    def __init__(self, config: TonenetConfig | None = None) -> None:
        super().__init__()
        config = config or TonenetConfig()
        self.tone = ToneNet(config.stages, config.hidden)
        self.denoiser = Denoiser(config.widths)


def is_tonenet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a tonenet."""
    return "tone.stages.0.weight" in tensors and "denoiser.enter.0.weight" in tensors


def deduce(tensors: Mapping[str, Tensor]) -> TonenetConfig:
    """Hyper-parameters from names and shapes.

    Raises:
        ModelError: A tensor that says one of them is missing.
    """
    stages = sorted((int(match[1]), name) for name in tensors if (match := _STAGE.match(name)))
    if len(stages) != 4:
        raise ModelError(f"a tonenet has four tensors 'tone.stages.N.weight', found {len(stages)}")
    a, b, c, d = (tensors[name].shape[0] for _, name in stages)

    def width(name: str) -> int:
        if name not in tensors:
            raise ModelError(f"tensor {name!r} is missing: the width of a tonenet cannot be told")
        return tensors[name].shape[0]

    return TonenetConfig(
        stages=(a, b, c, d),
        hidden=width("tone.hidden.weight"),
        widths=(width("denoiser.enter.0.weight"), width("denoiser.down1.0.weight"), width("denoiser.down2.0.weight")),
    )
