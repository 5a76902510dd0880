"""One repair that libavformat's Matroska writer leaves to us."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path


def write_display_size(path: Path, aspect: Fraction) -> bool:
    """Write the pixel aspect ratio as DisplayWidth/DisplayHeight. Stub until the writer needs it."""
    return False
