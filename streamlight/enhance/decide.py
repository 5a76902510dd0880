"""The model's answer to a frame, with what its stream remembers: the only place that joins models and time."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.enhance.base import EnhanceSettings
from streamlight.enhance.watch import Step
from streamlight.models.protocol import GenerativeModel, Prior, Recall
from streamlight.models.sampling import draw_latent
from streamlight.temporal import (
    StreamState,
    blend_prior,
    carry_along,
    carry_origin,
    look_up_noise,
    smooth_globals,
    smooth_latent,
)


def decide(
    model: GenerativeModel,
    low: Tensor,
    state: StreamState,
    step: Step,
    settings: EnhanceSettings,
    *,
    noise: Tensor | None = None,
) -> Tensor:
    """What a dark picture becomes.

    With ``stability`` above 0 everything that would change from frame to frame by chance is held: global statistics
    and the mean of the prior are smoothed, the noise is drawn once and moves with the scene, and what the model left
    at the frame before comes back to it along the motion. At 0 a model that decides in positions works frame by
    frame, bit for bit; one that decides on the frame as a whole follows its decision with ``time_constant`` always.

    Args:
        model: The model.
        low: ``(1, 3, H, W)``, as the model's card says.
        state: Of the frame's stream; updated.
        step: From the frame before.
        settings: What the user set.
        noise: Standard deviation of the luma noise in ``low``, ``(1,)``.

    Returns:
        ``(1, 3, H, W)`` in the colour space of ``low``.
    """
    recall = _recall(state, step, settings.stability) if settings.stability > 0.0 else None
    condition = model.condition(low, noise=noise, recall=recall)
    latent = _latent(model, model.prior(condition), state, step, settings)
    if model.card.denoises and settings.denoise < 1.0 and noise is not None:
        # Told of less noise it removes less, of none nothing; the tone is decided on what there is.
        condition = model.condition(low, noise=noise * settings.denoise, recall=recall)
    bright = model.decode(latent, condition, strength=settings.strength)
    if recall is not None:
        state.carried = recall.left
    return bright


def _recall(state: StreamState, step: Step, stability: float) -> Recall:
    recall = Recall(hold=stability, steady=partial(_steady, state, step.seconds, stability))
    if state.carried and step.motion is not None:
        recall.past = carry_along(state.carried, step.motion)
        recall.confidence = step.motion.confidence[None, None]
    return recall


def _steady(state: StreamState, seconds: float, stability: float, name: str, value: Tensor) -> Tensor:
    state.steady |= smooth_globals(state.steady, {name: value}, seconds=seconds, stability=stability)
    return state.steady[name]


def _latent(model: GenerativeModel, prior: Prior, state: StreamState, step: Step, settings: EnhanceSettings) -> Tensor:
    """The mean of the prior smoothed over time, and the stream's noise."""
    draw = partial(draw_latent, temperature=model.temperature)
    generator = torch.Generator().manual_seed(settings.seed)
    if prior.mean.ndim == 2:
        mean = state.prior = blend_prior(
            state.prior, prior.mean, seconds=step.seconds, time_constant=settings.time_constant
        )
        return draw(Prior(mean, prior.std), generator=generator)
    if settings.stability <= 0.0:
        return draw(prior, generator=generator)
    fold = model.card.latent_fold
    state.latent = smooth_latent(
        state.latent,
        prior.mean,
        seconds=step.seconds,
        stability=settings.stability,
        std=float(torch.as_tensor(prior.std).mean()),
        motion=step.motion,
        fold=fold,
    )
    mean = state.latent.mean.to(prior.mean.dtype)
    if model.temperature == 0.0:
        return mean
    noise = draw(Prior(torch.zeros_like(mean), prior.std), generator=generator)
    return mean + _attached(noise, state, step, fold=fold)


def _attached(noise: Tensor, state: StreamState, step: Step, *, fold: int) -> Tensor:
    """The same noise for every frame, moved with the scene: noise that stood still would be dirt on the lens."""
    if step.motion is not None and not step.motion.still:
        height, width = (side * fold for side in noise.shape[-2:])
        state.origin = carry_origin(state.origin, step.motion.resized(height, width))
    if state.origin is None:
        return noise
    moved = look_up_noise(F.pixel_shuffle(noise, fold) if fold > 1 else noise, state.origin)
    return F.pixel_unshuffle(moved, fold) if fold > 1 else moved
