"""What the registry knows of an architecture that lives in weights files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from streamlight.errors import ModelError
from streamlight.models.protocol import GenerativeModel, ModelCard

State = Mapping[str, Tensor]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Working precisions by name."""


def _as_stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one architecture is recognised, measured and built from tensors alone.

    Attributes:
        card: What is known without a file; a loaded model carries its own card.
        detect: Whether a state dict (canonical names) is of this architecture. Looks at names only and never raises.
        deduce: Its hyper-parameters, a frozen dataclass, from names and shapes; raises :class:`ModelError` naming the
            tensor that does not fit the pattern.
        network: An empty network of given hyper-parameters whose state dict has the official names. Runs on the meta
            device; the registry compares its state dict with the file.
        build: ``build(weights, **keywords)`` → model. Its keyword-only parameters are what a user may set.
        canonical: Renames other known layouts to the official one; must return the same dict where there is nothing
            to do. Prefixes such as ``module.`` are gone already.
        unused: Regular expressions, matched at the start, of names that influence nothing.
        published: Hyper-parameters of the published files, by configuration name.
    """

    card: ModelCard
    detect: Callable[[State], bool]
    deduce: Callable[[State], Any]
    network: Callable[[Any], nn.Module]
    build: Callable[..., GenerativeModel]
    canonical: Callable[[dict[str, Tensor]], dict[str, Tensor]] = _as_stored
    unused: tuple[str, ...] = ()
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name, as in ``--model``."""
        return self.card.name

    def describe(self, tensors: State) -> dict[str, Any]:
        """The deduced hyper-parameters as plain types."""
        config = self.deduce(tensors)
        return asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config)

    def matching(self, tensors: State) -> list[str]:
        """Names of published configurations with the same hyper-parameters."""
        config = self.deduce(tensors)
        return [name for name, known in self.published.items() if known == config]


def as_dtype(name: str | torch.dtype, card: ModelCard) -> torch.dtype:
    """The working precision called ``name``.

    Raises:
        ModelError: It is none of those that ``card`` lists as verified.
    """
    short = str(name).removeprefix("torch.")
    if short not in DTYPES or short not in card.dtypes:
        raise ModelError(f"model {card.name!r} runs in {', '.join(card.dtypes)}, not in {short!r}")
    return DTYPES[short]


def fastest_dtype() -> str:
    """The working precision in which this CPU convolves fastest: bfloat16 where it has instructions for it."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # None on builds that cannot tell
    return "bfloat16" if supported is not None and supported() else "float32"
