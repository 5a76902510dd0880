"""The model's answer to a frame, with what its stream remembers: the only place that joins models and time."""

from __future__ import annotations

import torch
from torch import Tensor

from streamlight.enhance.base import EnhanceSettings
from streamlight.enhance.watch import Step
from streamlight.models.protocol import Condition, GenerativeModel, Prior
from streamlight.models.sampling import draw_latent
from streamlight.temporal import StreamState, blend_prior, estimate_motion, smooth_latent


def latent_of(
    model: GenerativeModel, condition: Condition, state: StreamState, step: Step, settings: EnhanceSettings
) -> Tensor:
    """The latent of a frame: the mean of the model's prior smoothed over time, and the stream's noise.

    A latent without positions is a decision on the whole frame, and follows it with ``time_constant``. One with
    positions is carried along the motion and averaged as far as ``stability`` says; 0 is frame by frame, bit for bit.
    The noise is the same for every frame: noise that changed would be flicker.

    Args:
        model: The model.
        condition: Of the frame.
        state: Of its stream; updated.
        step: From the frame before.
        settings: What the user set.
    """
    prior = model.prior(condition)
    if prior.mean.ndim == 2:
        mean = state.prior = blend_prior(
            state.prior, prior.mean, seconds=step.seconds, time_constant=settings.time_constant
        )
    else:
        mean = _carried(model, prior, state, step, settings.stability)
    return draw_latent(
        Prior(mean, prior.std),
        temperature=model.temperature,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def _carried(model: GenerativeModel, prior: Prior, state: StreamState, step: Step, stability: float) -> Tensor:
    if stability <= 0.0:
        return prior.mean
    motion = None
    if state.latent is not None and step.before is not None and state.raw_luma is not None and state.noise is not None:
        motion = estimate_motion(state.raw_luma, step.before, state.noise)
    state.latent = smooth_latent(
        state.latent,
        prior.mean,
        seconds=step.seconds,
        stability=stability,
        std=float(torch.as_tensor(prior.std).mean()),
        motion=motion,
        fold=model.card.latent_fold,
    )
    return state.latent.mean.to(prior.mean.dtype)
