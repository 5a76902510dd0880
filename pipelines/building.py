"""From the configuration to the objects it asks for."""

from __future__ import annotations

from pathlib import Path

from streamlight.config import Config, suggestion
from streamlight.enhance import Enhancer, EnhanceSettings, build_enhancer
from streamlight.errors import ConfigError
from streamlight.models import architectures, names

MODEL_KEYWORDS = (
    "look",
    "denoiser",
    "dtype",
    "temperature",
    "brightness",
    "fidelity",
    "steps",
    "eta",
    "t_start",
    "tile",
)
"""Options that only some models have; unset ones are left to the model."""


def enhancer_for(config: Config) -> Enhancer:
    """The enhancer that the configuration asks for, on its first device.

    Raises:
        ConfigError: There is no such model.
        ModelError: Its weights cannot be loaded.
        DeviceError: The device is not available.
    """
    model = config.model
    known = sorted({*names(), *architectures()})
    if model.name not in known and not Path(model.name).exists():
        raise ConfigError(
            f"unknown model '{model.name}'{suggestion(model.name, known)} (models: {', '.join(known)}, or a file)"
        )
    settings = EnhanceSettings(
        strength=model.strength,
        denoise=model.denoise,
        time_constant=model.time_constant,
        stability=model.stability,
        working_size=model.working_size,
        keyframe_interval=model.keyframe_interval,
        keyframe_async=model.keyframe_async,
        direct_limit=model.direct_limit,
        seed=model.seed,
        workers=config.run.workers,
    )
    keywords = {key: getattr(model, key) for key in MODEL_KEYWORDS if getattr(model, key) is not None}
    if model.weights is not None:
        keywords["weights"] = model.weights
    return build_enhancer(model.name, device=model.devices[0], mode=model.mode, settings=settings, **keywords)


def one_per_device(config: Config) -> list[Config]:
    """The configuration for each of its devices."""
    return [config.model_copy(update={"model": config.model.on(device)}) for device in config.model.devices]
