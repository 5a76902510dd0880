"""What a table of models is measured against: no model at all, and the simplest brightening there is."""

from __future__ import annotations

import torch
from torch import Tensor

from streamlight.evaluation.metrics import GREY
from streamlight.models.protocol import Condition, ModelCard, Prior, Recall


class AutoGamma:
    """One power law for the picture, ``low ** g``, with the g that brings its grey mean to 0.42.

    Decided anew for every picture, without memory. Its :attr:`card` says what it is, as a model's does.

    Args:
        mean: Grey mean aimed at, in encoded values.
    """

    card: ModelCard = ModelCard(
        name="gamma",
        summary="Baseline: a power law that brings the grey mean to 0.42",
        revision="1",
        latent="(N, 1): the exponent",
        global_latent=True,
    )
    temperature: float = 0.0

    def __init__(self, *, mean: float = 0.42) -> None:
        self._mean = mean

    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """``low``: ``(N, 3, H, W)`` RGB in [0, 1]; nothing is remembered."""
        return Condition(low)

    def prior(self, condition: Condition) -> Prior:
        """The exponent, ``(N, 1)``, between 1/16 and 16: found by bisection, since the mean falls as it grows."""
        weights = torch.tensor(GREY, dtype=torch.float32, device=condition.low.device)
        exponents = [self._exponent(picture, weights) for picture in condition.low]
        return Prior(torch.tensor(exponents)[:, None])

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """``(N, 3, H, W)`` RGB."""
        bright = condition.low ** latent.to(condition.low.device)[:, :, None, None]
        return torch.lerp(condition.low, bright, strength)

    def _exponent(self, picture: Tensor, weights: Tensor) -> float:
        step = max(1, min(picture.shape[1:]) // 128)  # some ten thousand pixels give the mean to a thousandth
        sample = picture[:, ::step, ::step]
        low, high = -4.0, 4.0
        for _ in range(16):
            middle = 0.5 * (low + high)
            mean = float((sample**2.0**middle).mean((1, 2)) @ weights)
            low, high = (middle, high) if mean > self._mean else (low, middle)
        return float(2.0 ** (0.5 * (low + high)))
