"""The model's answer to a frame, with what its stream remembers: the only place that joins models and time."""

from __future__ import annotations

from torch import Tensor

from streamlight.enhance.base import EnhanceSettings
from streamlight.enhance.watch import Step
from streamlight.models.protocol import Condition, GenerativeModel, Prior, Recall
from streamlight.models.sampling import draw_latent
from streamlight.temporal import (
    StreamState,
    average_along,
    blend_prior,
    carry_along,
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

    A model that decides on the frame as a whole follows its decision with ``time_constant``. One whose latent has
    positions is kept from changing by chance as far as ``stability`` says: the picture that it derives everything from
    is averaged along the motion (:func:`steady`), its noise is drawn once, and what it left at the frame before comes
    back to it along the motion. At 0 it works frame by frame, bit for bit.

    Args:
        model: The model.
        low: ``(1, 3, H, W)``, as the model's card says, from :func:`steady`.
        state: Of the frame's stream; updated.
        step: From the frame that was decided on before.
        settings: What the user set.
        noise: Standard deviation of the luma noise in ``low``, ``(1,)``.

    Returns:
        ``(1, 3, H, W)`` in the colour space of ``low``.
    """
    recall = recall_of(state, step, settings.stability) if averages(model, settings) else None
    condition = model.condition(low, noise=noise, recall=recall)
    latent = latent_of(model, model.prior(condition), state, step, settings)
    condition = as_asked(model, condition, noise, settings)
    bright = model.decode(latent, condition, strength=settings.strength)
    if recall is not None:
        state.carried = recall.left
    return bright


def as_asked(
    model: GenerativeModel, condition: Condition, noise: Tensor | None, settings: EnhanceSettings
) -> Condition:
    """The condition to decode with, after the tone was decided on what there is.

    Told of less noise a model that denoises removes less, of none nothing.
    """
    if model.card.denoises and settings.denoise < 1.0 and noise is not None:
        return model.condition(condition.low, noise=noise * settings.denoise, recall=condition.recall)
    return condition


def averages(model: GenerativeModel, settings: EnhanceSettings) -> bool:
    """Whether the dark picture is averaged along the motion for this model."""
    return settings.stability > 0.0 and not model.card.global_latent


def steady(model: GenerativeModel, low: Tensor, state: StreamState, step: Step, settings: EnhanceSettings) -> Tensor:
    """The dark picture, averaged along the motion where the latent has positions; for every frame of a stream.

    All that a model derives from it then follows the scene and not the noise: the mean of its prior and what goes past
    the latent as well. Averaging the mean alone leaves the noise in the features that the decoder sees besides.

    Args:
        model: The model.
        low: ``(1, 3, H, W)``, as the model's card says.
        state: Of the frame's stream; updated.
        step: From the frame before.
        settings: What the user set; ``stability`` 0 returns ``low`` itself.
    """
    if not averages(model, settings):
        return low
    state.average = average_along(
        state.average,
        low,
        seconds=step.seconds,
        stability=settings.stability,
        motion=step.motion,
        fresh=step.fresh,
    )
    return state.average.mean.to(low.dtype)


def recall_of(state: StreamState, step: Step, stability: float) -> Recall:
    """What a stream remembers for the model, carried to this frame."""
    recall = Recall(hold=stability)
    if state.carried and step.motion is not None:
        recall.past = carry_along(state.carried, step.motion)
        recall.confidence = step.motion.confidence[None, None]
    return recall


def latent_of(
    model: GenerativeModel, prior: Prior, state: StreamState, step: Step, settings: EnhanceSettings
) -> Tensor:
    """Mean and noise; the same noise for every frame of a stream.

    It stays where it is in the picture: a flow or sampler is equivariant to whole strides at most, and noise that moves
    with the scene by anything else gives another texture every time.
    """
    if model.card.global_latent:
        state.prior = blend_prior(
            state.prior, prior.mean, seconds=step.seconds, time_constant=settings.time_constant, fresh=step.fresh
        )
        prior = Prior(state.prior, prior.std)
    return draw_latent(prior, temperature=model.temperature, seed=settings.seed)
