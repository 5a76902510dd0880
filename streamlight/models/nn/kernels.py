"""Where work is done by Triton kernels, and where by plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

Backend = Literal["auto", "triton", "torch"]
"""``"auto"`` is Triton on CUDA as long as it works there, torch elsewhere; the others ask for one of the two."""

Result = TypeVar("Result")

_ALL: WeakSet[Kernels] = WeakSet()


class Kernels:
    """Chooses between a compiled kernel and the same in torch.

    Triton needs a C compiler and a driver it knows, and finds out at the first use of a kernel. With ``"auto"`` that
    is no reason to stop: torch takes over for good, and :attr:`fallback` says why.

    Args:
        backend: Which of the two is wanted; with ``"triton"`` what it raises is raised.

    Attributes:
        fallback: Why Triton was given up; None while it was not.
    """

    def __init__(self, backend: Backend = "auto") -> None:
        self.backend = backend
        self.fallback: str | None = None
        _ALL.add(self)

    def run(self, tensor: Tensor, compiled: Callable[[], Result], plain: Callable[[], Result]) -> Result:
        """One of the two functions, by where ``tensor`` is.

        Args:
            tensor: Any of the tensors at work; its device is made the current one.
            compiled: Imports and launches the kernels; where it fails, its inputs are as they were.
            plain: The same in torch.

        Raises:
            torch.OutOfMemoryError: The device has not enough memory; likewise other faults of the device itself.
        """
        if self.backend == "triton":
            with torch.cuda.device_of(tensor):
                return compiled()
        if self.backend == "torch" or self.fallback is not None or tensor.device.type != "cuda":
            return plain()
        try:
            with torch.cuda.device_of(tensor):
                return compiled()
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # compilers fail in many ways: no compiler, no driver, no rights in the cache
            self.fallback = f"no Triton kernels: {type(error).__name__}: {_first_line(error)}"
        return plain()


def given_up() -> list[str]:
    """Why kernels of this process run in torch instead, each reason once."""
    return sorted({kernels.fallback for kernels in _ALL if kernels.fallback is not None})


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"
