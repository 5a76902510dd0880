"""State dicts for tests of LLDiffusion: the golden networks, and random weights under the published names."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "lldiffusion"


def golden_state(name: str) -> dict[str, Tensor]:
    """A golden network in float32, names as published."""
    return {key: value.float() for key, value in load_file(GOLDEN / f"{name}_weights.safetensors").items()}


def published_shapes(configuration: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published configuration."""
    lines = (GOLDEN / f"keys_{configuration}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {row[0]: tuple(map(int, re.findall(r"\d+", row[1]))) for row in rows}


def random_state(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights that keep activations near 1: identity norms, kernels scaled by their fan-in."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) > 1:
            return torch.randn(shape, generator=generator) * torch.Size(shape[1:]).numel() ** -0.5
        if name.endswith(".weight"):
            return torch.ones(shape)
        if name.endswith(".bias"):
            return torch.zeros(shape)
        return torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=0)

    return {name: draw(name, shape) for name, shape in shapes.items()}
