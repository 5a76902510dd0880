"""All that is known about a model: what ``streamlight models show`` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamlight.config import suggestion
from streamlight.errors import ConfigError
from streamlight.models import registry
from streamlight.models.record import Record, file_digest, read_record

if TYPE_CHECKING:
    from streamlight.models.architecture import Architecture
    from streamlight.models.protocol import ModelCard

_COLORS = {"rgb": "RGB in [0, 1], every pixel", "ycbcr": "a small YCbCr copy; the result is carried to full resolution"}


@dataclass(frozen=True, slots=True)
class Published:
    """A published weights file of an architecture, as far as its shape goes.

    Attributes:
        name: Of the configuration.
        parameters: Trained numbers in it that the network uses.
        shape: Hyper-parameters.
    """

    name: str
    parameters: int
    shape: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A model's card and what belongs beside it.

    Attributes:
        card: The card.
        needs_file: Whether it takes weights that the package does not hold.
        keywords: What :func:`streamlight.load` takes for it.
        published: Known files of the architecture; empty for a model that comes with the package.
        weights: The package's weights file; None for a model without.
        record: What is known of that file: training, credits, figures.
    """

    card: ModelCard
    needs_file: bool
    keywords: tuple[str, ...]
    published: tuple[Published, ...]
    weights: Path | None = None
    record: Record | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        published = {p.name: {"parameters": p.parameters, "shape": p.shape} for p in self.published}
        return {
            **self.card.to_dict(),
            "needs_file": self.needs_file,
            "keywords": list(self.keywords),
            "published": published,
            "weights": None
            if self.weights is None
            else {"file": self.weights.name, "sha256": file_digest(self.weights)},
            "record": None if self.record is None else self.record.to_dict(),
        }

    def lines(self) -> list[str]:
        """The sheet in words, a line a fact."""
        card = self.card
        sizes = "any" if card.size_multiple == 1 else f"multiples of {card.size_multiple}"
        rest = [name for name in card.dtypes if name != "float32"]
        verified = f" ({' and '.join(rest)} verified against float32)" if rest else ""
        facts = [
            ("architecture", f"{card.name}, revision {card.revision}"),
            ("parameters", self._parameters()),
            *(("", f"{file.parameters:,} in use in the published {file.name}") for file in self.published),
            ("precisions", ", ".join(card.dtypes) + verified),
            ("training data", card.training_data),
            ("licence", card.licence),
            ("works on", _COLORS[card.color]),
            ("frame sizes", sizes),
            ("context", "the whole frame decides" if card.needs_global_context else "local, may be cut into tiles"),
            ("latent", f"{card.latent or 'none'}; {'sampled' if card.stochastic else 'not sampled'}"),
            ("settings", ", ".join(self.keywords) or "none"),
            *self._recorded(),
        ]
        return [f"{card.name}: {card.summary}", *(f"  {name:<15}{text}" for name, text in facts)]

    def _recorded(self) -> list[tuple[str, str]]:
        if self.weights is None:
            return []
        digest = file_digest(self.weights)
        facts = [("weights", f"{self.weights.name}, {self.weights.stat().st_size:,} bytes, SHA-256 {digest}")]
        return facts + (self.record.lines(digest=digest) if self.record is not None else [])

    def _parameters(self) -> str:
        if self.needs_file:
            return "as many as the weights file holds"
        return f"{self.card.parameters:,}, in the package" if self.card.parameters else "none"


def describe(name: str) -> Sheet:
    """The sheet of a model.

    Args:
        name: One of :func:`streamlight.models.names` or :func:`streamlight.models.architectures`.

    Raises:
        ConfigError: There is none of this name.
        ModelError: What lies beside its weights cannot be read.
    """
    built_in, known = registry.names(), sorted({*registry.names(), *registry.architectures()})
    if name not in known:
        if Path(name).is_file():
            raise ConfigError(f"'{name}' is a file; 'streamlight models check {name}' says what it is")
        raise ConfigError(f"unknown model '{name}'{suggestion(name, known)} (models: {', '.join(known)})")
    card = next(card for card in registry.cards() if card.name == name)
    published = () if name in built_in else _published(registry.architecture(name))
    weights = registry.packaged_weights(name)
    record = None if weights is None else read_record(weights)
    return Sheet(card, name not in built_in, tuple(registry.keywords(name)), published, weights, record)


def _published(architecture: Architecture) -> tuple[Published, ...]:
    """Parameters are counted on networks without memory."""
    import torch

    found = []
    for name, config in architecture.published.items():
        with torch.device("meta"):
            network = architecture.network(config)
            tensors = network.state_dict()
        found.append(Published(name, sum(p.numel() for p in network.parameters()), architecture.describe(tensors)))
    return tuple(found)
