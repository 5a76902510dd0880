"""The training loop: one optimiser step after another, and what a checkpoint needs to go on with them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from streamlight.errors import ConfigError, ModelError
from streamlight.training.average import Average
from streamlight.training.checkpoint import Checkpoint
from streamlight.training.data.batches import Named
from streamlight.training.recipe import OptimizerRecipe, Recipe
from streamlight.training.seeds import generator, seed_of
from streamlight.training.task import Batch, Task

_SMALLEST_SCALE = 2.0**-14
_LISTED = 4


class Trainer:
    """A task with its optimiser, average and precision.

    Args:
        task: On the device already.
        recipe: Resolved.
        device: Where it computes.

    Attributes:
        step: Optimiser steps taken.

    Raises:
        ConfigError: Nothing in the task is to be trained.
    """

    def __init__(self, task: Task, recipe: Recipe, *, device: torch.device) -> None:
        self.task, self.recipe, self.device = task, recipe, device
        self.step = 0
        self._trained = [p for p in task.module.parameters() if p.requires_grad]
        if not self._trained:
            raise ConfigError(f"task '{recipe.task}': all parameters are frozen, there is nothing to train")
        self._optimizer = make_optimizer(self._trained, recipe.optimizer)
        self._average = None if recipe.ema is None else Average(task.module, recipe.ema)
        half = recipe.precision == "float16"
        self._scaler = torch.amp.GradScaler(device.type, enabled=half)

    def advance(self, named: Named) -> dict[str, float]:
        """Take one step.

        Args:
            named: Its batch, on any device.

        Returns:
            The task's losses, ``rate`` and, where gradients are clipped, their ``norm`` before it.

        Raises:
            ModelError: A loss or gradient is not finite. The weights are those before the step.
        """
        recipe, step = self.recipe, self.step
        rate = recipe.optimizer.rate * recipe.schedule.factor_at(step, recipe.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # Layers such as dropout draw from the global generator.
        torch.manual_seed(seed_of(recipe.seed, "layers", step))
        with self._autocast():
            losses = self.task.losses(
                to_device(named.batch, self.device), step=step, generator=generator(recipe.seed, "step", step)
            )
        values = dict(zip(losses, _numbers(losses), strict=True))
        self._check(values, named)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(losses["loss"]).backward()
        norm = self._clip(values, named)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._scaler.is_enabled() and self._scaler.get_scale() < _SMALLEST_SCALE:
            raise self._divergence("gradients overflow float16 at every scale", named)
        self.step = step + 1
        if self._average is not None:
            self._average.update(self.step)
        return {**values, "rate": rate, **norm}

    def state(self, *, data: str, window: dict[str, float], seconds: float) -> Checkpoint:
        """Everything that a run needs to go on exactly as if it had not stopped.

        Args:
            data: Key of the pictures.
            window: Sums of the log.
            seconds: Time spent.
        """
        return Checkpoint(
            step=self.step,
            recipe=self.recipe.to_plain(),
            data=data,
            module=self.task.module.state_dict(),
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            average={} if self._average is None else self._average.state(),
            window=window,
            seconds=seconds,
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """The inverse of :meth:`state`."""
        self.step = checkpoint.step
        self.task.module.load_state_dict(checkpoint.module)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        if checkpoint.scaler:
            self._scaler.load_state_dict(checkpoint.scaler)
        if self._average is not None:
            self._average.load(checkpoint.average)

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and metadata of the weights file: of the average, if there is one."""
        average = {} if self._average is None else self._average.state()
        return self.task.export({**self.task.module.state_dict(), **average})

    def pictures(self, batch: Batch) -> list[Tensor]:
        """Columns of the sample sheet, by the weights that would be exported."""
        modes = {module: module.training for module in self.task.module.modules()}
        numbers = generator(self.recipe.seed, "sheet")
        averaged = nullcontext() if self._average is None else self._average.in_place()
        with averaged, torch.no_grad():
            self.task.module.eval()
            try:
                return self.task.pictures(to_device(batch, self.device), generator=numbers)
            finally:
                for module, mode in modes.items():
                    module.training = mode

    def _autocast(self) -> Any:
        kind = getattr(torch, self.recipe.precision)
        return nullcontext() if kind is torch.float32 else torch.autocast(self.device.type, dtype=kind)

    def _clip(self, values: dict[str, float], named: Named) -> dict[str, float]:
        """Limit the gradients; returns their norm."""
        self._scaler.unscale_(self._optimizer)
        limit = math.inf if self.recipe.clip is None else self.recipe.clip
        norm = torch.nn.utils.clip_grad_norm_(self._trained, limit).item()
        # Overflow of scaled gradients is no failure: the scaler leaves the step out and scales less.
        if not math.isfinite(norm) and not self._scaler.is_enabled():
            raise self._divergence(f"the gradient is not finite ({_told(values)})", named)
        return {"norm": norm} if math.isfinite(norm) else {}

    def _check(self, values: dict[str, float], named: Named) -> None:
        # Waits for the device once a step; a step is long.
        if not all(math.isfinite(value) for value in values.values()):
            raise self._divergence(f"the loss is not finite ({_told(values)})", named)

    def _divergence(self, what: str, named: Named) -> ModelError:
        names = ", ".join(named.names[:_LISTED])
        more = f" and {len(named.names) - _LISTED} more" if len(named.names) > _LISTED else ""
        return ModelError(
            f"step {self.step}: {what} with the pictures {names}{more}; "
            f"lower optimizer.rate or clip, or try precision: float32"
        )


def make_optimizer(parameters: list[torch.nn.Parameter], recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.name]
    return kind(parameters, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the module is."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _numbers(losses: dict[str, Tensor]) -> list[float]:
    """All of them at once: on a card every number by itself would be waited for."""
    numbers: list[float] = torch.stack([loss.detach().float().reshape(()) for loss in losses.values()]).tolist()
    return numbers


def _told(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
