"""Random numbers that depend on what they are for, and on nothing that happened before."""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, purpose: str, index: int = 0) -> int:
    """A seed from 0 to 2^63 - 1 for one purpose of a run and one index."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A generator on the CPU: the same arguments give the same numbers, other arguments unrelated ones.

    Args:
        seed: Of the run.
        purpose: What the numbers are for.
        index: Step, sample or pair.
    """
    return torch.Generator().manual_seed(seed_of(seed, purpose, index))
