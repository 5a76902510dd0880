"""Networks and their weights. Knows torch; no video, no files but weights."""

from streamlight.models.registry import cards, load, names

__all__ = ["cards", "load", "names"]
