"""What a model costs, as numbers that hold on every machine: parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from streamlight.enhance import Enhancer
from streamlight.enhance.auto import AutoEnhancer
from streamlight.enhance.direct import DirectEnhancer
from streamlight.evaluation.model_case import macs_of
from streamlight.media import ColorSpec, Frame

GUIDED: Final = (1920, 1080)
DIRECT: Final = (256, 256)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one frame takes.

    Attributes:
        parameters: Trained numbers in the model.
        macs: Multiply-accumulates of the convolutions, matrix products and attention that run in torch, of one frame
            of a stream that is under way.
        size: Of the frame, ``"1920x1080"``: a model on small copies is counted on a full one, others on a picture.
    """

    parameters: int
    macs: int
    size: str


def cost_of(enhancer: Enhancer) -> Cost:
    """Count, by running one dark frame with noise through the enhancer."""
    width, height = DIRECT if isinstance(enhancer, AutoEnhancer | DirectEnhancer) else GUIDED
    state = enhancer.new_state()
    enhancer([_frame(width, height, 0)], [state])
    macs = macs_of(lambda: enhancer([_frame(width, height, 1)], [state]))
    return Cost(enhancer.model.card.parameters, macs, f"{width}x{height}")


def _frame(width: int, height: int, index: int) -> Frame:
    rng = np.random.default_rng(index)
    luma = np.clip(16 + 12 * np.linspace(0, 1, width) + rng.normal(0, 2, (height, width)), 16, 235).astype(np.uint8)
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return Frame((luma, chroma, chroma), ColorSpec(), pts=index, time_base=Fraction(1, 25), index=index)
