"""Tensors as arrays of NumPy and back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

Entry = TypeVar("Entry")

_BFLOAT16: Final = ":bfloat16"
"""Ending of the name of an array whose 16-bit integers are the bits of bfloat16, which NumPy does not know."""


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies as arrays; from a device this waits."""
    arrays = {}
    for name, tensor in tensors.items():
        host = tensor.detach().cpu()
        if host.dtype == torch.bfloat16:
            arrays[name + _BFLOAT16] = host.contiguous().view(torch.int16).numpy().copy()
        else:
            arrays[name] = host.numpy().copy()
    return arrays


def to_tensors(arrays: Mapping[str, np.ndarray], *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The inverse of :func:`to_arrays`."""
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.array(array))
        if name.endswith(_BFLOAT16):
            name, tensor = name.removesuffix(_BFLOAT16), tensor.view(torch.bfloat16)
        tensors[name] = tensor.to(device)
    return tensors


def below(name: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries called ``name.…``, without that part."""
    return {key.removeprefix(f"{name}."): value for key, value in entries.items() if key.startswith(f"{name}.")}
