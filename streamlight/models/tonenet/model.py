"""tonenet as the enhancers see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

import torch
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models.protocol import Condition, ModelCard, Prior, Recall
from streamlight.models.tonenet.denoiser import merge, pack
from streamlight.models.tonenet.network import TonenetNetwork
from streamlight.models.tonenet.tone import LATENT, apply_tone, survey

Look = Literal["night", "day"]

LOOKS: Final[dict[str, float]] = {"night": 0.0, "day": 1.0}

LUMA_SHARE: Final = 0.5
"""How far the denoiser is followed in luma; chroma follows in full.

What filters over time, and the transfer, take noise out of luma too, and the whole way costs moving detail. Chosen on
the darkened clips that ``streamlight evaluate video`` measures on.
"""

CARD: Final = ModelCard(
    name="tonenet",
    summary="Our own small model: tone curve and denoiser on a small copy, real time on two CPU cores",
    revision="1",
    color="ycbcr",
    latent=f"(N, {LATENT}): log gain of black, curve, saturation, colour cast",
    global_latent=True,
    needs_global_context=True,
    denoises=True,
    batches=True,
    dtypes=("float32", "bfloat16"),
)


class Tonenet:
    """A tone curve chosen per frame, and a denoiser for what the curve amplifies.

    The latent is what :func:`~streamlight.models.tonenet.tone.apply_tone` takes; smoothing it over time smooths every
    decision about exposure and colour at once.

    Args:
        network: The two networks.
        look: ``"night"``: dark stays dark, lamps keep their shape. ``"day"``: as bright as daylight.
        denoiser: Whether the denoiser runs; without it only the tone is changed.
        revision: What tells these weights from others.
    """

    temperature = 0.0

    def __init__(
        self, network: TonenetNetwork, *, look: Look = "night", denoiser: bool = True, revision: str = ""
    ) -> None:
        if look not in LOOKS:
            raise ConfigError(f"look must be one of {', '.join(LOOKS)}, got {look!r}")
        self.network = network
        self.look = look
        self.denoiser = denoiser
        parameters = sum(parameter.numel() for parameter in network.parameters())
        setting = f"{revision}-{look}{'' if denoiser else '-plain'}"
        self.card = replace(CARD, parameters=parameters, revision=setting, denoises=denoiser)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Tonenet:
        """Move to ``device``."""
        self.network.to(device)
        return self

    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """Keep ``low`` and its noise.

        Args:
            low: ``(N, 3, H, W)`` YCbCr, luma in [0, 1], chroma in [-0.5, 0.5], float32.
            noise: Standard deviation of its luma noise, ``(N,)``; 0, or None, where there is nothing to remove.
            recall: Not used: what it decides is smoothed by its caller.
        """
        noise = low.new_zeros(len(low)) if noise is None else noise.to(low).expand(len(low))
        return Condition(low, {"noise": noise})

    def prior(self, condition: Condition) -> Prior:
        """The latent that the tone network chooses; it has no spread."""
        low = condition.low
        with torch.inference_mode():
            look = low.new_full((len(low),), LOOKS[self.look])
            features, gain, histogram = _steps(low).survey(low)
            return Prior(self.network.tone.choose(features, gain, histogram, condition.features["noise"], look))

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """Tone-map and denoise ``condition.low``; strength scales all gains in the log domain, 0 gives ``low`` back."""
        low, noise = condition.low, condition.features["noise"]
        if strength == 0.0:
            return low
        with torch.inference_mode():
            steps, denoiser = _steps(low), self.network.denoiser
            toned, gain = steps.apply_tone(latent, low, noise=noise, strength=strength)
            # Elsewhere than on the CPU the host would have to wait for the answer; without noise all weights are 0.
            if not self.denoiser or (noise.device.type == "cpu" and not bool((noise > 0.0).any())):
                return toned
            features = steps.pack(toned, low[:, :1], gain, noise, dtype=denoiser.dtype)
            denoised = steps.merge(toned, denoiser.answer(features), gain, noise)
            denoised[:, :1].lerp_(toned[:, :1], 1.0 - LUMA_SHARE)
            return denoised


class _Reference:
    """The steps that go over pixels, on any device; see :mod:`~streamlight.models.tonenet.kernels` for the others."""

    survey = staticmethod(survey)
    apply_tone = staticmethod(apply_tone)
    pack = staticmethod(pack)
    merge = staticmethod(merge)


def _steps(low: Tensor) -> Any:
    if low.device.type != "cpu" or low.dtype != torch.float32 or low.requires_grad:
        return _Reference
    from streamlight.models.tonenet import kernels  # numba takes its time to import, and other models do without

    return kernels
