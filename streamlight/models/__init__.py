"""Networks and their weights. Knows torch; no video, no files but weights."""

import os

# Activations of full frames are tens of megabytes each; fetched from the system 4 KiB at a time, a pass over a fresh
# one takes several times as long as its arithmetic. Huge pages help where the system has them on request; torch reads
# this before its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from streamlight.models.registry import architectures, cards, check, convert, keywords, load, names
from streamlight.models.sheet import describe

__all__ = ["architectures", "cards", "check", "convert", "describe", "keywords", "load", "names"]
