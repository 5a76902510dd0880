"""LLFlow as a generative model: any frame size, samples, temperature, and brightness along the latent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from streamlight.errors import ModelError
from streamlight.models.architecture import Architecture, as_dtype
from streamlight.models.llflow.config import PUBLISHED, SIZE_MULTIPLE, UNUSED, LLFlowConfig, deduce, is_llflow
from streamlight.models.llflow.encoder import Encoding
from streamlight.models.llflow.network import LLFlowNetwork, latent_mean
from streamlight.models.llflow.prepared import PreparedNetwork
from streamlight.models.llflow.preprocess import (
    centred_padding,
    equalization_table,
    network_input,
    pad_symmetric,
    to_codes,
)
from streamlight.models.protocol import Condition, ModelCard, Prior, Recall
from streamlight.models.sampling import draw_pictures
from streamlight.models.weights import Weights, assemble, fingerprint, write_safetensors

PaddingRule = Literal["least", "official"]

CARD: Final = ModelCard(
    name="llflow",
    summary="Normalizing flow around a predicted colour map (AAAI 2022); needs a weights file",
    revision="1",
    color="rgb",
    latent="(N, 192, ceil(H / 8), ceil(W / 8)), near the colour map of the picture",
    size_multiple=1,
    needs_global_context=True,
    stochastic=True,
    batches=True,
    dtypes=("float32", "bfloat16", "float16"),
    licence="official files: CC BY-NC-SA 4.0, research only; other files: ask their maker",
    training_data="official files: LOL, or LOL-v2",
)


class LLFlow:
    """LLFlow for enhancement. Frames of any size are mirrored to a multiple of 8 and cropped back exactly.

    The equalised input is a lookup table per frame (:meth:`statistics`); a caller that cuts a frame in tiles passes it
    to :meth:`condition`.

    Args:
        network: The reference network; not changed, but to be left alone while this model is used.
        config: Its hyper-parameters.
        dtype: Working precision of the convolutions. On random weights of the published shapes, pictures differ from
            float32 by 50 dB PSNR or better in bfloat16 and 67 dB in float16; float16 is for GPUs, most CPUs emulate it.
        temperature: Standard deviation of what :meth:`sample` adds to the latent's mean; 0 gives the published result.
        brightness: Added to every value of the latent's mean, in standard deviations of the prior; what it does to the
            picture's brightness, and in which direction, is up to the weights.
        padding: ``"least"`` mirrors to the next multiple of 8 and equalises the frame's own histogram; ``"official"``
            mirrors to the next multiple of 16, a whole 16 where none is needed, and equalises the mirrored frame, as
            the published script for unpaired pictures does.
        revision: Identity of the weights.
    """

    def __init__(
        self,
        network: LLFlowNetwork,
        config: LLFlowConfig,
        *,
        dtype: str | torch.dtype = "float32",
        temperature: float = 0.0,
        brightness: float = 0.0,
        padding: PaddingRule = "least",
        revision: str = "1",
    ) -> None:
        if not 0.0 <= temperature < float("inf"):
            raise ModelError(f"temperature must be 0 or more, got {temperature}")
        if not abs(brightness) < float("inf"):
            raise ModelError(f"brightness must be a number, got {brightness}")
        if padding not in ("least", "official"):
            raise ModelError(f"padding must be 'least' or 'official', got {padding!r}")
        self.network, self.config = network, config
        self.temperature, self.brightness, self.padding = temperature, brightness, padding
        self.dtype = as_dtype(dtype, CARD)
        name = str(self.dtype).removeprefix("torch.")
        parameters = sum(parameter.numel() for parameter in network.parameters())
        setting = f"{revision}-{name}-{padding}-t{temperature:g}-b{brightness:g}"
        self.card = replace(CARD, parameters=parameters, revision=setting)
        self._prepared: PreparedNetwork | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def prepared(self) -> PreparedNetwork:
        """The fast path; made from the network's weights on first use."""
        if self._prepared is None:
            self._prepared = PreparedNetwork(self.network, self.dtype)
        return self._prepared

    def to(self, device: str | torch.device) -> LLFlow:
        """Move to ``device``; also takes up weights that were changed since."""
        self.network.to(device)
        self._prepared = None
        return self

    def statistics(self, low: Tensor) -> Tensor:
        """Equalisation tables of whole frames, ``(N, 3, 256)`` float32 codes: all that is global about a frame.

        Args:
            low: As for :meth:`condition`.
        """
        low = self._checked(low)
        return equalization_table(self._padded(to_codes(low)) if self.padding == "official" else to_codes(low))

    def condition(
        self,
        low: Tensor,
        *,
        noise: Tensor | None = None,
        recall: Recall | None = None,
        statistics: Tensor | None = None,
    ) -> Condition:
        """Encode dark pictures: all that does not depend on the latent.

        Args:
            low: ``(N, 3, H, W)`` RGB, float in [0, 1] or uint8; at least one pixel.
            noise: Not used.
            recall: Not used. The tables are those of a picture that is averaged over time already; smoothed themselves
                they would lag behind the light, and that moves the brightness more than their jumps.
            statistics: What :meth:`statistics` gave for the frames, or a smoothed version of it.

        Raises:
            ModelError: ``low`` is of another shape or type.
        """
        low = self._checked(low)
        with torch.inference_mode():
            table = self.statistics(low) if statistics is None else statistics.to(self.device)
            encoding = self.prepared.encode(network_input(self._padded(low), table=table))
        levels = {f"level{index + 1}": features for index, features in enumerate(encoding.conditions)}
        picture = low.float() / 255.0 if low.dtype == torch.uint8 else low
        return Condition(picture, {"color_map": encoding.color_map, **levels}, recall)

    def prior(self, condition: Condition) -> Prior:
        """Gaussian around the predicted colour map (plus ``brightness``), standard deviation 1 (equation 4)."""
        return Prior(latent_mean(condition.features["color_map"]) + self.brightness, 1.0)

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """The bright picture of a latent, ``(S·N, 3, H, W)`` in [0, 1].

        Args:
            latent: ``(S·N, 192, h, w)``: S samples of the N pictures of ``condition``, the N of one sample in a row.
            condition: What :meth:`condition` returned.
            strength: 0 returns ``low``, 1 the flow's picture, in between a mixture.

        Raises:
            ModelError: The latent does not belong to this condition.
        """
        low, features = condition.low, condition.features
        copies, rest = divmod(latent.shape[0], low.shape[0])
        expected = tuple(latent_mean(features["color_map"]).shape[1:])
        if tuple(latent.shape[1:]) != expected or rest or not copies:
            raise ModelError(
                f"a latent of shape {tuple(latent.shape)} does not fit {low.shape[0]} pictures of "
                f"{low.shape[-1]}x{low.shape[-2]}; expected a multiple of {low.shape[0]} x {expected}"
            )
        low = low.repeat(copies, 1, 1, 1) if copies > 1 else low
        if strength == 0.0:
            return low
        encoding = Encoding(features["color_map"], tuple(features[f"level{level}"] for level in (1, 2, 3)))
        with torch.inference_mode():
            top, _, left, _ = self._padding(*low.shape[-2:])
            picture = self.prepared.decode(latent.to(self.device), encoding)
            picture = picture[:, :, top : top + low.shape[-2], left : left + low.shape[-1]].clamp(0.0, 1.0)
            return picture if strength == 1.0 else torch.lerp(low.to(picture.dtype), picture, strength)

    def sample(self, low: Tensor, **drawing: Any) -> Tensor:
        """Several bright pictures of each dark one: :func:`streamlight.models.sampling.draw_pictures`.

        Returns:
            ``(samples, N, 3, H, W)`` float32 in [0, 1].
        """
        return draw_pictures(self, low, **drawing)

    def save(self, path: str | Path) -> None:
        """Write the weights so that :func:`streamlight.load` gives this model back, tapped blocks included.

        Raises:
            ModelError: The file cannot be written.
        """
        keywords = json.dumps({"taps": list(self.config.taps)})
        metadata = {"streamlight.architecture": CARD.name, "streamlight.keywords": keywords}
        write_safetensors(path, self.network.state_dict(), metadata=metadata)

    def _padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        if self.padding == "official":
            return centred_padding(height, width, 2 * SIZE_MULTIPLE, always=True)
        return centred_padding(height, width, SIZE_MULTIPLE)

    def _padded(self, picture: Tensor) -> Tensor:
        return pad_symmetric(picture, self._padding(*picture.shape[-2:]))

    def _checked(self, low: Tensor) -> Tensor:
        if low.ndim != 4 or low.shape[1] != 3 or 0 in low.shape:
            raise ModelError(f"llflow wants RGB pictures (N, 3, H, W) of at least one pixel, got {tuple(low.shape)}")
        if low.dtype != torch.uint8 and not low.is_floating_point():
            raise ModelError(f"llflow wants floats in [0, 1] or 8-bit codes, got {low.dtype}")
        return low.to(self.device)


def _build(
    weights: Weights,
    *,
    taps: tuple[int, ...] | None = None,
    dtype: str | torch.dtype = "float32",
    temperature: float = 0.0,
    brightness: float = 0.0,
    padding: PaddingRule = "least",
) -> LLFlow:
    """Make the model of a weights file; keywords as for :class:`LLFlow`, and :func:`deduce` for ``taps``."""
    config = deduce(weights.tensors, taps=None if taps is None else tuple(taps))
    network = assemble(lambda: LLFlowNetwork(config), weights, unused=UNUSED)
    revision = fingerprint(network.state_dict()) + "-" + ".".join(map(str, config.taps))
    return LLFlow(
        network,
        config,
        dtype=dtype,
        temperature=temperature,
        brightness=brightness,
        padding=padding,
        revision=revision,
    )


ARCHITECTURE: Final = Architecture(
    card=CARD,
    detect=is_llflow,
    deduce=deduce,
    network=LLFlowNetwork,
    build=_build,
    unused=UNUSED,
    published=PUBLISHED,
)
"""What the registry knows of LLFlow."""
