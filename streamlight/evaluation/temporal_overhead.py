"""What carrying things over time costs by itself: small copies through all that remembers, with networks left out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from statistics import median
from typing import Final

import torch
from torch import Tensor

from streamlight.enhance.color import rgb_from_planes, ycbcr_from_rgb
from streamlight.enhance.decide import decide, steady
from streamlight.enhance.watch import Step, watch
from streamlight.evaluation.temporal_clips import drawn_clip
from streamlight.evaluation.temporal_rows import Row
from streamlight.evaluation.temporal_ways import Subject
from streamlight.models.protocol import Condition, GenerativeModel, ModelCard, Prior, Recall
from streamlight.temporal import StreamState, motion_gate

FRAMES: Final = 30
SMALL: Final = (480, 270)
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
        self.temperature = 0.0
        recall = Recall()
        condition = model.condition(low, recall=recall)
        self._prior = model.prior(condition)
        self._bright = model.decode(self._prior.mean, condition)
        self._left = dict(recall.left)

    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """See :class:`GenerativeModel`."""
        if recall is not None:
            recall.left = dict(self._left)
        return Condition(low, recall=recall)

    def prior(self, condition: Condition) -> Prior:
        """See :class:`GenerativeModel`."""
        return self._prior

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """See :class:`GenerativeModel`."""
        return self._bright


def overhead_row(subject: Subject, *, frames: int = FRAMES, size: tuple[int, int] = SMALL) -> Row:
    """Milliseconds of one core that a frame takes at the working size, the median over a drawn drive.

    That is what guided mode does in any case (noise, cuts, the filter of the small copy) and, for a model that works on
    RGB pictures, what the default stability takes longer than none. Time is the processor's: what elapses on a
    machine that has nothing else to do.

    Args:
        subject: The model; its networks run once only.
        frames: More than four; the first four warm up.
        size: Width and height of the small copy.
    """
    clip = drawn_clip("drive", frames=frames, width=size[0], height=size[1], cut=frames)
    pictures = [rgb_from_planes(frame.planes, frame.color) for frame in clip.dark]
    state, alone = StreamState(), StreamState()
    taken = []
    with closing(subject.open(**({"steps": 1} if subject.steps else {}))) as enhancer, torch.inference_mode():
        settings, plain = enhancer.settings, replace(enhancer.settings, stability=0.0)
        replayed = Replayed(enhancer.model, pictures[0][None]) if subject.pictures else None
        with _one_thread():
            for frame, rgb in zip(clip.dark, pictures, strict=True):
                small = ycbcr_from_rgb(rgb, frame.color)
                begin = time.process_time()
                step = watch(state, small[0], frame)
                _filter(state, small)
                if replayed is not None:
                    low = steady(replayed, rgb[None], state, step, settings)
                    decide(replayed, low, state, step, settings)
                middle = time.process_time()
                if replayed is not None:
                    decide(replayed, rgb[None], alone, Step(), plain)
                taken.append(2 * middle - begin - time.process_time())
    note = f"{frames} frames, small copy of {size[0]}x{size[1]}, median; no network runs"
    return Row("overhead", subject.label, 1e3 * median(taken[_WARM_UP:]), note=note)


def _filter(state: StreamState, small: Tensor) -> None:
    if state.small is None or state.noise is None:
        state.small = small
    else:
        state.small = torch.lerp(state.small, small, motion_gate(small, state.small, state.noise))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
