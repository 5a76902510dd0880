"""What a training run needs to know of the thing it trains."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
"""Pictures of one step, each ``(N, 3, H, W)`` float32 RGB in [0, 1]: ``low`` and ``target``; with synthetic data also
``clean``, the dark picture before sensor noise, blur and storage (not rounded)."""


class Task(Protocol):
    """Networks, their loss, a look at their results, and the weights that leave the run.

    A task is built from its section of a recipe; the loop owns optimiser, averaging, precision and checkpoints.

    Attributes:
        module: Everything a checkpoint must hold. Parameters with ``requires_grad`` are trained; buffers are kept.
        captions: Names of the columns that :meth:`pictures` returns.
    """

    module: nn.Module
    captions: tuple[str, ...]

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars of one step; ``loss`` is minimised, the others are logged.

        Args:
            batch: On the module's device.
            step: Number of optimiser steps taken so far.
            generator: On the CPU; the only source of randomness, so that a resumed run repeats.
        """
        ...

    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """Columns of the sample sheet, ``(N, 3, H, W)`` RGB each, for the weights that ``module`` holds now."""
        ...

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and metadata of the weights file.

        Args:
            state: A state dict of ``module``: the trained weights or their average.
        """
        ...
