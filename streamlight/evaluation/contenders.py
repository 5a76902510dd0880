"""What is measured, in a word: a model with its settings, or a baseline.

``retinex``, ``retinex,denoise=0``, ``tonenet,preset=quality``, ``my.safetensors,device=cpu``: a model as ``--model``
takes it, then options of the schema, and ``label=NAME`` for what tables call it. ``input`` is the dark picture itself,
``gamma`` a plain power law.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streamlight.config import Config, load_config, options, suggestion
from streamlight.enhance import Enhancer, EnhanceSettings, build_enhancer
from streamlight.errors import ConfigError
from streamlight.evaluation.baselines import AutoGamma
from streamlight.models.record import file_digest
from streamlight.models.registry import packaged_weights
from streamlight.pipelines.building import enhancer_for

INPUT: Final = "input"
GAMMA: Final = "gamma"
BASELINES: Final = (INPUT, GAMMA)


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that makes a picture out of a dark one.

    Attributes:
        label: What it is called in tables.
        config: The configuration that makes the enhancer; of a baseline only what reading files needs.
        baseline: ``"input"`` or ``"gamma"``; empty for a model.
    """

    label: str
    config: Config
    baseline: str = ""

    def open(self) -> Enhancer:
        """The enhancer; whoever opens it closes it.

        Raises:
            ConfigError: The model does not take its settings.
            ModelError: It cannot be loaded.
            DeviceError: The device is not there.
        """
        if not self.baseline:
            return enhancer_for(self.config)
        settings = EnhanceSettings(strength=0.0 if self.baseline == INPUT else 1.0)
        return build_enhancer(AutoGamma(), settings=settings)

    def describe(self, enhancer: Enhancer) -> dict[str, Any]:
        """For reports: the card, the settings given, the weights file and its digest."""
        if self.baseline:
            return {"card": {"name": self.baseline}, "settings": {}, "weights": None}
        model = self.config.model
        file = self.weights
        weights = None if file is None else {"file": file.name, "sha256": file_digest(file)}
        settings = model.model_dump(mode="json", exclude={"name", "weights"}, exclude_none=True)
        return {"card": enhancer.model.card.to_dict(), "settings": settings, "weights": weights}

    @property
    def weights(self) -> Path | None:
        """The weights file, the user's or the package's; None where there is none."""
        model = self.config.model
        if self.baseline:
            return None
        file = Path(model.weights or model.name)
        return file if file.is_file() else packaged_weights(model.name)

    def values(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name, as plain values: enough to build ``config`` anew."""
        plain = self.config.model_dump(mode="json")
        return {
            option.name: plain[option.section][option.field]
            for option in options()
            if getattr(getattr(self.config, option.section), option.field) != option.default
        }


def of_config(config: Config) -> Contender:
    """The model that a configuration asks for."""
    return Contender(Path(config.model.name).name, config)


def parse_contender(text: str) -> Contender:
    """Read a contender, as the module says.

    Raises:
        ConfigError: An option is unknown, not one of the model, or has a value that is not allowed.
    """
    name, *rest = (part.strip() for part in text.split(","))
    if name in BASELINES:
        if rest:
            raise ConfigError(f"'{text}': the baseline '{name}' has no settings")
        return Contender(name, Config(), name)
    known = [option.name for option in options() if option.section == "model" or option.key == "run.workers"]
    values: dict[str, Any] = {}
    for part in rest:
        key, given, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not given or key not in (*known, "preset", "label") or key == "model":
            raise ConfigError(
                f"'{text}': expected MODEL,OPTION=VALUE,… with options of the model, got '{part}'"
                f"{suggestion(key, known)}"
            )
        values[key] = value.strip()
    preset = values.pop("preset", None)
    label = values.pop("label", None) or ",".join([Path(name).name, *rest])
    return Contender(label, load_config(preset=preset, values={"model": name, **values}))
