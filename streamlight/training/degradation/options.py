"""What stands on the command line or in a file, as values."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

from streamlight.errors import ConfigError
from streamlight.training.degradation.parameters import DegradationParameters


def parse_exposure(text: str) -> float:
    """``"1/25"`` or ``"0.04"`` as a number.

    Raises:
        ConfigError: It is neither, or not above 0 and at most 1.
    """
    try:
        value = Fraction(text.strip())
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"exposure: expected a share of the light such as 1/25 or 0.04, got {text!r}") from error
    if not 0 < value <= 1:
        raise ConfigError(f"exposure must be above 0 and at most 1, for example 1/25; got {text}")
    return float(value)


def read_parameters(path: str | os.PathLike[str]) -> DegradationParameters:
    """Parameters from a JSON file: what `degrade` wrote, or the parameters alone.

    Raises:
        ConfigError: The file does not exist, is no JSON, or holds a key or value that is not allowed.
    """
    file = Path(path)
    try:
        data = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"parameters file {file} does not exist") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"parameters file {file} cannot be read: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("parameters"), dict):
        data = data["parameters"]
    if not isinstance(data, dict):
        raise ConfigError(f"parameters file {file} must hold an object, got {type(data).__name__}")
    return DegradationParameters.from_json(data, origin=str(file))
