"""The moving average of the weights, which is what leaves a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of the weights that are trained.

    Unlike ``torch.optim.swa_utils.AveragedModel`` it does not copy the frozen part of the network, and its memory grows
    with the run, so that the average of a short run is not that of its first steps.

    Args:
        module: Of the task.
        decay: Share of the old average that a step keeps, in the long run.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self._decay = module, decay
        self._tensors = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` optimiser steps."""
        keep = min(self._decay, (1.0 + step) / (10.0 + step))
        weights = dict(self._module.named_parameters())
        for name, tensor in self._tensors.items():
            tensor.lerp_(weights[name].detach(), 1.0 - keep)

    def state(self) -> dict[str, Tensor]:
        """The averages by name, for a checkpoint."""
        return dict(self._tensors)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""
        for name, tensor in self._tensors.items():
            tensor.copy_(state[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Meanwhile the module has the averaged weights."""
        weights = {name: p for name, p in self._module.named_parameters() if name in self._tensors}
        kept = {name: p.detach().clone() for name, p in weights.items()}
        try:
            with torch.no_grad():
                for name, tensor in self._tensors.items():
                    weights[name].copy_(tensor)
            yield
        finally:
            with torch.no_grad():
                for name, tensor in kept.items():
                    weights[name].copy_(tensor)
