"""Networks and their weights. Knows torch; no video, no files but weights."""

from streamlight.models.registry import architectures, cards, check, convert, load, names

__all__ = ["architectures", "cards", "check", "convert", "load", "names"]
