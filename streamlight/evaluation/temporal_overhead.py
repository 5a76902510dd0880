"""What carrying things over time costs by itself: full frames through guided mode with a model that is free."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import Final

import numpy as np
import torch
from torch import Tensor

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.evaluation.temporal_clips import drawn_clip
from streamlight.evaluation.temporal_rows import Row
from streamlight.evaluation.temporal_ways import Subject
from streamlight.media import Frame
from streamlight.models.protocol import Condition, GenerativeModel, ModelCard, Prior, Recall

FRAMES: Final = 30
SMALL: Final = (480, 270)
_ENLARGED: Final = 4
_WARM_UP: Final = 4


class Replayed:
    """A model that answers every frame with what another answered to one, and with as much for the next frame.

    All that the other asks of ``temporal`` is asked here too; its networks do not run.

    Args:
        model: The other.
        low: ``(1, 3, H, W)``, the picture that it is asked about.
    """

    def __init__(self, model: GenerativeModel, low: Tensor) -> None:
        self.card: ModelCard = model.card
        self.temperature = 1.0
        self._steadied: list[tuple[str, Tensor]] = []
        recall = Recall(steady=self._record)
        condition = model.condition(low, recall=recall)
        self._prior = model.prior(condition)
        self._bright = model.decode(self._prior.mean, condition).clone()
        self._left = dict(recall.left)
        self._noise = torch.Generator().manual_seed(0)

    def _record(self, name: str, value: Tensor) -> Tensor:
        self._steadied.append((name, value))
        return value

    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """See :class:`GenerativeModel`."""
        if recall is not None:
            for name, value in self._steadied:
                recall.steady(name, value)
            recall.left = dict(self._left)
        return Condition(low, recall=recall)

    def prior(self, condition: Condition) -> Prior:
        """See :class:`GenerativeModel`."""
        return self._prior

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """See :class:`GenerativeModel`."""
        return self._bright


def overhead_row(subject: Subject, *, frames: int = FRAMES) -> Row:
    """Milliseconds a frame at 1080p, the median: guided mode with all that is remembered less what has no memory.

    That is the enhancer's own step "temporal" and, for a model that works on RGB pictures, what the default stability
    takes longer than none. The frames are those of a drive, drawn at the working size and enlarged, so that the small
    copy has the noise of a camera. Both run in turn, frame by frame; each has a stream of its own.

    Args:
        subject: The model; its networks run once only.
        frames: More than four; the first four warm up.
    """
    clip = drawn_clip("drive", frames=frames, width=SMALL[0], height=SMALL[1], cut=frames)
    with closing(subject.open(**({"steps": 1} if subject.steps else {}))) as enhancer:
        settings, model = enhancer.settings, enhancer.model
    if subject.pictures:
        with torch.inference_mode():
            model = Replayed(model, _picture())
    plain = _Stream(model, replace(settings, stability=0.0))
    steady = _Stream(model, settings) if subject.pictures else plain
    taken = []
    for dark in clip.dark:
        frame = _enlarged(dark)
        seconds, own = plain.take(frame)
        taken.append(own + (steady.take(frame)[0] - seconds if steady is not plain else 0.0))
    for stream in {id(one): one for one in (plain, steady)}.values():
        stream.enhancer.close()
    note = f"{frames} frames of 1920x1080, small copy of {SMALL[0]}x{SMALL[1]}, median; no network runs"
    return Row("overhead", subject.label, 1e3 * median(taken[_WARM_UP:]), note=note)


class _Stream:
    """One stream through guided mode."""

    def __init__(self, model: GenerativeModel, settings: EnhanceSettings) -> None:
        self.enhancer = build_enhancer(model, mode="guided", settings=settings)
        self._state = self.enhancer.new_state()

    def take(self, frame: Frame) -> tuple[float, float]:
        """Seconds that a frame took, and those of them in the step "temporal"."""
        copy, before = replace(frame), self.enhancer.timings["temporal"]
        begin = time.perf_counter()
        self.enhancer([copy], [self._state])
        return time.perf_counter() - begin, self.enhancer.timings["temporal"] - before


def _picture() -> Tensor:
    low = torch.full((1, 3, SMALL[1], SMALL[0]), 0.05)
    return low + 0.02 * torch.rand(low.shape, generator=torch.Generator().manual_seed(0))


def _enlarged(frame: Frame) -> Frame:
    def large(plane: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(plane, _ENLARGED, axis=0), _ENLARGED, axis=1)

    return replace(frame, planes=tuple(large(plane) for plane in frame.planes))
