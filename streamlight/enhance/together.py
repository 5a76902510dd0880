"""Frames of several streams in one call of the model: what a large model on a large device gains most from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.decide import as_asked, averages, decide, latent_of, recall_of
from streamlight.enhance.watch import Step, keep_time
from streamlight.media.frame import Frame
from streamlight.models.protocol import GenerativeModel, Prior, Recall
from streamlight.temporal import StreamState


def alike(frames: Sequence[Frame], states: Sequence[StreamState]) -> list[list[int]]:
    """Which frames can go into one call: of equal size and colour, and of different streams.

    Args:
        frames: In order.
        states: Of their streams.

    Returns:
        Groups of positions; a stream's frames stay in their order.
    """
    if len({id(state) for state in states}) < len(states):
        return [[position] for position in range(len(frames))]
    groups: dict[object, list[int]] = {}
    for position, frame in enumerate(frames):
        groups.setdefault((frame.width, frame.height, frame.color), []).append(position)
    return list(groups.values())


Group = Callable[[list[Frame], list[StreamState], list[float]], None]
"""Works on frames of one format, their streams, and seconds since the frames before."""


def in_groups(
    enhancer: Enhancer, frames: Sequence[Frame], states: Sequence[StreamState], work: Group, *, timed: bool = True
) -> None:
    """Do ``work`` on frames of several streams: those that are alike at once, one by one once memory has run out.

    Args:
        enhancer: Whose work it is.
        frames: Of one stream in order, or of several.
        states: Of their streams; their time is taken up.
        work: To be done.
        timed: Whether the streams remember anything; else all seconds are 0.

    Raises:
        torch.OutOfMemoryError: Memory does not suffice for one frame.
    """
    several = enhancer.batches and not enhancer.one_by_one
    for group in alike(frames, states) if several else [[position] for position in range(len(frames))]:
        chosen, own = [frames[i] for i in group], [states[i] for i in group]
        seconds = [keep_time(state, frame) if timed else 0.0 for state, frame in zip(own, chosen, strict=True)]
        try:
            work(chosen, own, seconds)
        except torch.OutOfMemoryError:
            if len(group) == 1:
                raise
            enhancer.one_by_one = True
            enhancer.step_down(
                f"{len(group)} frames in one call do not fit into the memory of {enhancer.device}: one by one"
            )
            for frame, state, step in zip(chosen, own, seconds, strict=True):
                work([frame], [state], [step])


def decide_together(
    model: GenerativeModel,
    lows: Sequence[Tensor],
    states: Sequence[StreamState],
    steps: Sequence[Step],
    settings: EnhanceSettings,
    *,
    noises: Sequence[Tensor] = (),
) -> list[Tensor]:
    """:func:`~streamlight.enhance.decide.decide` for frames of several streams.

    Each stream keeps its own memory and its own noise: the result is that of single calls, up to the rounding of a
    batch. Streams at the start of a scene go with those at the start, the others with the others.

    Args:
        model: A model whose card says that it takes several pictures.
        lows: ``(1, 3, H, W)`` each, of one size.
        states: Of their streams; updated.
        steps: From the frames before.
        settings: What the user set.
        noises: Standard deviation of the luma noise in each of ``lows``, ``(1,)``; none where nobody says.

    Returns:
        ``(1, 3, H, W)`` each.
    """
    recalls = [recall_of(state, step, settings.stability) for state, step in zip(states, steps, strict=True)]
    results: dict[int, Tensor] = {}
    kinds: dict[object, list[int]] = {}
    for position, recall in enumerate(recalls):
        kind = sorted((name, value.shape) for name, value in recall.past.items())
        kinds.setdefault(tuple(kind), []).append(position)
    for group in kinds.values():
        if len(group) == 1:
            (only,) = group
            noise = noises[only] if noises else None
            results[only] = decide(model, lows[only], states[only], steps[only], settings, noise=noise)
            continue
        low = torch.cat([lows[position] for position in group])
        noise = torch.cat([noises[position] for position in group]) if noises else None
        shared = _joined([recalls[position] for position in group]) if averages(model, settings) else None
        condition = model.condition(low, noise=noise, recall=shared)
        prior = model.prior(condition)
        latent = torch.cat(
            [
                latent_of(model, _part(prior, row), states[position], steps[position], settings)
                for row, position in enumerate(group)
            ]
        )
        condition = as_asked(model, condition, noise, settings)
        bright = model.decode(latent, condition, strength=settings.strength)
        for row, position in enumerate(group):
            results[position] = bright[row : row + 1]
            if shared is not None:
                states[position].carried = {name: value[row : row + 1] for name, value in shared.left.items()}
    return [results[position] for position in range(len(lows))]


def _joined(recalls: Sequence[Recall]) -> Recall:
    """What several streams remember, as one memory of a batch."""
    first = recalls[0]
    joined = Recall(hold=first.hold)
    if first.past:
        joined.past = {name: torch.cat([recall.past[name] for recall in recalls]) for name in first.past}
        joined.confidence = torch.cat([c for recall in recalls if (c := recall.confidence) is not None])
    return joined


def _part(prior: Prior, row: int) -> Prior:
    std = prior.std
    shared = not isinstance(std, Tensor) or std.ndim == 0 or len(std) == 1
    return Prior(prior.mean[row : row + 1], std if shared else std[row : row + 1])  # type: ignore[index]
