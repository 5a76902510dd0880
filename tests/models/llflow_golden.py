"""The golden set of LLFlow: small random networks recorded once, with the tolerance of every tensor."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "llflow"
INFO: dict[str, Any] = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))
WEIGHTS = FOLDER / "weights.safetensors"
KEY_LISTS = sorted(FOLDER.glob("llflow_keys_*.txt"))


@cache
def tensors() -> dict[str, Tensor]:
    return load_file(FOLDER / "tensors.safetensors")


def close(name: str, found: Tensor) -> None:
    """Assert that ``found`` is the golden tensor within the tolerance that its set states."""
    expected, rule = tensors()[name], INFO["tensors"][name]["tolerance"]
    if rule["kind"] == "exact":
        assert torch.equal(found, expected), name
    elif rule["kind"] == "uint8":
        difference = (found.int() - expected.int()).abs()
        assert int(difference.max()) <= rule["max_abs"], name
        assert float((difference > 0).float().mean()) <= rule["max_fraction_differing"], name
    else:
        torch.testing.assert_close(
            found.detach().float(), expected, atol=rule["atol"], rtol=rule["rtol"], msg=lambda text: f"{name}: {text}"
        )


def nchw(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).contiguous()


def key_list(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of a key list."""
    shapes = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, shape = line.split("\t")[:2]
            shapes[name] = tuple(int(size) for size in shape.strip("()[]").split(",") if size.strip())
    return shapes


_STEADY = 0.2
"""Scale of an ActNorm that makes up for the couplings' mean scale of 0.88, as data-dependent initialisation does."""


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random weights of these shapes that keep a flow of any depth in range."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if name.endswith("invconv.weight"):
            value = torch.linalg.qr(value)[0]
        elif "actnorm" in name or name.endswith("logs"):
            value = value * 0.02
            if name.split(".")[-2:] == ["actnorm", "logs"] and "affine" not in name:
                value = value + _STEADY
        else:
            value = value * (0.5 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.05)
        state[name] = value.contiguous()
    return state
