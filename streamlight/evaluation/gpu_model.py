"""A model's share of a frame: what it was asked, written down, so that it can be asked the same again and counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from streamlight.engine import GraphCache, Link
from streamlight.engine.graphs import Tensors
from streamlight.models.protocol import Condition, Recall


@dataclass(slots=True)
class ModelCall:
    """What a model was asked for one frame, or one frame of each camera.

    Attributes:
        tensors: Copies of ``low`` and ``latent``, and where given of ``noise``, ``confidence``, ``past.NAME``.
        hold: Of the memory; None where the model was given none.
        strength: Of the effect.
    """

    tensors: Tensors = field(default_factory=dict)
    hold: float | None = None
    strength: float = 1.0

    @torch.inference_mode()
    def run(self, model: Any, graphs: GraphCache, link: Link) -> Tensor:
        """Ask again, in the compute lane; returns the picture without waiting for it."""

        def work(tensors: Tensors) -> Tensors:
            past = {name.removeprefix("past."): one for name, one in tensors.items() if name.startswith("past.")}
            recall = None if self.hold is None else Recall(past, tensors.get("confidence"), self.hold)
            condition = model.condition(tensors["low"], noise=tensors.get("noise"), recall=recall)
            model.prior(condition)
            return {"bright": model.decode(tensors["latent"], condition, strength=self.strength)}

        with link.computing():
            return graphs("model", work, self.tensors)["bright"]


@contextmanager
def recorded(model: Any) -> Iterator[list[ModelCall]]:
    """While it lasts, what ``model`` is asked is copied; the list grows by one with every picture."""
    condition, decode = model.condition, model.decode
    calls: list[ModelCall] = []
    begun: list[ModelCall] = []

    def heard(low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        given = {"low": low, "noise": noise, "confidence": recall.confidence if recall is not None else None}
        if recall is not None:
            given |= {f"past.{name}": one for name, one in recall.past.items()}
        copies = {name: one.clone() for name, one in given.items() if one is not None}
        begun.append(ModelCall(copies, recall.hold if recall is not None else None))
        return condition(low, noise=noise, recall=recall)

    def decoded(latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        call = begun[-1]
        call.tensors["latent"], call.strength = latent.clone(), strength
        calls.append(call)
        return decode(latent, condition, strength=strength)

    model.condition, model.decode = heard, decoded
    try:
        yield calls
    finally:
        del model.condition, model.decode
