"""LLDiffusion: latent map encoder, DDDM and DGNET, and their use as a generative model of bright pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from streamlight.errors import ConfigError, ModelError
from streamlight.models.lldiffusion.config import LLDiffusionConfig
from streamlight.models.lldiffusion.diffusion import ddim, diffuse, time_steps
from streamlight.models.lldiffusion.encoder import LatentMapEncoder
from streamlight.models.lldiffusion.preprocess import color_map, pad, padded_sizes
from streamlight.models.lldiffusion.sampling import Sampling, TiledNoise, WholeNoise
from streamlight.models.lldiffusion.unet import UNet
from streamlight.models.lldiffusion.warm import Warm, near, warm_start
from streamlight.models.protocol import Condition, ModelCard, Prior, Recall
from streamlight.models.sampling import draw_pictures, seeded_noise
from streamlight.models.weights import write_safetensors

CARD: Final = ModelCard(
    name="lldiffusion",
    summary="Diffusion steered by learned degradation features (Wang et al., arXiv:2307.14659)",
    revision="1",
    color="rgb",
    latent="(N, 3, H', W'): start noise of the frame as it is padded inside",
    size_multiple=1,
    needs_global_context=True,
    stochastic=True,
    dtypes=("float32", "bfloat16", "float16"),
    licence="weights of third parties without a stated licence; code Apache-2.0",
    training_data="LOL, LOL-v2 (published checkpoints)",
)


class LLDiffusion(nn.Module):
    """Low-light enhancement by a diffusion process (Wang et al., arXiv:2307.14659, Pattern Recognition 166, 2025).

    The latent is the noise that the trajectory starts from, at the size of the padded frame. Everything that depends
    on the dark picture only — colour map C(y) and degradation features E(y) — is computed once, in
    :meth:`condition`; each sampling step costs one evaluation of ``diff_unet``.

    Args:
        config: Shape of the network.
        sampling: Settings of the sampler.
        temperature: Standard deviation of the start noise when the caller says nothing; trained with 1.
        revision: Identity of the weights.

    Raises:
        ConfigError: ``temperature`` is negative.
    """

    def __init__(
        self,
        config: LLDiffusionConfig,
        *,
        sampling: Sampling | None = None,
        temperature: float = 1.0,
        revision: str = "1",
    ) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.config = config
        self.temperature = temperature
        self.sampling = sampling if sampling is not None else Sampling()
        self.encoder = LatentMapEncoder(config.encoder_ch, config.features)
        groups = config.norm_groups
        self.diff_unet = UNet(config.dddm, config.features, norm_groups=groups)
        self.deg_unet = UNet(config.dgnet, config.features, norm_groups=groups) if config.dgnet is not None else None
        settings = "-".join(str(value) for value in astuple(self.sampling))
        self.card: ModelCard = replace(
            CARD,
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            revision=f"{revision}-t{temperature:g}-{settings}",
        )

    def forward(self, x_t: Tensor, y: Tensor, t: Tensor, *, high: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The training forward pass (paper, section 3.4).

        Args:
            x_t: Noised well-lit picture, ``(N, 3, H, W)``; H and W multiples of 32, at least 64.
            y: Dark picture in [-1, 1], likewise.
            t: Time steps, ``(N,)``.
            high: Well-lit picture in [-1, 1] for DGNET; None leaves DGNET out.

        Returns:
            Predicted noise, and DGNET's prediction of ``y`` or None.
        """
        features = self.encoder(y)
        noise = self.diff_unet(torch.cat([x_t, y, color_map(y)], dim=1), features, t)
        if high is None:
            return noise, None
        if self.deg_unet is None:
            raise ModelError("the weights have no DGNET (deg_unet); call without high")
        return noise, self.deg_unet(high, features)

    @torch.no_grad()
    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """Pad the dark picture, and compute its colour map and degradation features.

        Args:
            low: ``(N, 3, H, W)`` float in [0, 1], RGB; any size.
            noise: Not used: the network estimates the degradation itself.
            recall: Lets :meth:`decode` start from the result of the frame before, in a few steps.

        Raises:
            ModelError: ``low`` is not such a tensor.
        """
        _check_picture(low, "low")
        low = low.to(self.encoder.encoder.conv_7x7.weight.device)
        y = 2 * self._padded(low.to(self.encoder.encoder.conv_7x7.weight.dtype)) - 1
        features = {"y": y, "color": color_map(y)}
        if self.sampling.whole_encoder:
            dtype = self.diff_unet.working_dtype
            features |= {f"degradation_{i}": feature.to(dtype) for i, feature in enumerate(self.encoder(y))}
        return Condition(low, features, recall)

    def prior(self, condition: Condition) -> Prior:
        """Standard normal start noise, ``(N, 3, H', W')``, H' and W' the padded size."""
        return Prior(torch.zeros_like(condition.features["y"]), 1.0)

    @torch.no_grad()
    def decode(
        self,
        latent: Tensor,
        condition: Condition,
        *,
        strength: float = 1.0,
        x_init: Tensor | None = None,
        step_noise: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Sample the bright picture.

        Args:
            latent: Start noise, as :meth:`prior` shapes it; several may share a condition of one picture.
            condition: Of the dark picture.
            strength: Share of the way from the dark picture (0) to the sampled one (1).
            x_init: Bright picture to start from, ``(N, 3, H, W)`` in [0, 1]: it is noised by ``latent`` up to
                ``t_start``, which must then be set (SDEdit). Without it, and without changed settings, a frame whose
                stream remembers a result starts from that; else ``latent`` is the state at the first step.
            step_noise: Noise of each step where ``eta`` is above 0, each the shape of ``latent``.
            generator: Source of that noise where it is not given; else the ``seed`` of the settings.
            **sampling: ``steps``, ``eta``, ``t_start`` for this call instead of the model's own.

        Returns:
            ``(N, 3, H, W)`` in [0, 1] for ``strength`` 1, RGB, the size of the dark picture.

        Raises:
            ModelError: A tensor has the wrong shape.
            ConfigError: A setting is out of range, or ``x_init`` comes without ``t_start``.
        """
        condition = _shared(condition, latent)
        low = condition.low
        if strength == 0.0:
            return low
        warm = None
        if self.sampling.warm_steps and x_init is None and not sampling and len(latent) == 1:
            warm = warm_start(condition.recall, low)
        walk = self.trajectory(
            latent, condition, x_init=x_init, warm=warm, step_noise=step_noise, generator=generator, **sampling
        )
        for state in walk:
            x = state
        height, width = low.shape[-2:]
        bright = ((x[..., :height, :width] + 1) / 2).clamp(0, 1).to(low.dtype)
        bright = bright if warm is None else warm.anchored(bright)
        if condition.recall is not None and len(bright) == 1:
            condition.recall.left |= {"bright": bright, "low": low}
        return bright if strength == 1.0 else torch.lerp(low, bright, strength)

    def sample(
        self,
        low: Tensor,
        *,
        samples: int = 1,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
        strength: float = 1.0,
        **arguments: Any,
    ) -> Tensor:
        """Enhance pictures, several times on request: :func:`streamlight.models.sampling.draw_pictures`.

        Args:
            low: ``(N, 3, H, W)`` float in [0, 1], RGB.
            samples: How many results, S.
            temperature: Standard deviation of the start noise; the model's own if None.
            generator: Source of the start noise and of the steps' noise; needed unless ``temperature`` is 0.
            strength: As for :meth:`decode`.
            **arguments: As for :meth:`decode`.

        Returns:
            ``(S, N, 3, H, W)``.

        Raises:
            ModelError: ``low`` is not such a tensor.
            ConfigError: A setting is out of range, or there is nothing to draw noise from.
        """
        if generator is None and (self.temperature if temperature is None else temperature):
            raise ConfigError("the sampler starts from noise: give a generator (or call decode with the noise itself)")
        decode = partial(self.decode, generator=generator, **arguments)
        return draw_pictures(
            self, low, samples=samples, temperature=temperature, generator=generator, strength=strength, decode=decode
        )

    def trajectory(
        self,
        latent: Tensor,
        condition: Condition,
        *,
        x_init: Tensor | None = None,
        warm: Warm | None = None,
        step_noise: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> Iterator[Tensor]:
        """States of the sampler after each step, padded size, in [-1, 1] but not clamped; arguments as :meth:`decode`.

        ``warm`` is what a stream remembers: it takes the place of ``x_init``, with the settings of such a start.
        Gradients are recorded unless switched off.
        """
        settings = self._settings(sampling)
        condition = _shared(condition, latent)
        if warm is not None:
            x_init, settings = warm.start, replace(settings, steps=settings.warm_steps, t_start=settings.warm_start)
        y = condition.features["y"]
        times = time_steps(settings.steps, t_start=settings.t_start)
        x = latent.to(y)
        if x_init is not None:
            if settings.t_start is None:
                raise ConfigError("x_init needs t_start: how far back it is noised, 1 to 999")
            if x_init.shape[-3:] != condition.low.shape[-3:] or x_init.shape[0] not in (1, len(y)):
                raise ModelError(f"x_init must be {tuple(condition.low.shape)} like low, got {tuple(x_init.shape)}")
            x = diffuse(2 * self._padded(x_init.to(y)) - 1, times[0], x)
        noise = [item.to(y) for item in step_noise] if step_noise is not None else None
        if generator is None and noise is None and settings.eta > 0.0 and x.device.type != "cpu":
            # The numbers that ddim() would draw below, without a copy to the device at every step.
            noise = list(seeded_noise(x.shape, seed=settings.seed, device=x.device, dtype=x.dtype, count=len(times)))
        if generator is None:
            generator = torch.Generator(device="cpu").manual_seed(settings.seed)
        predict: Callable[[Tensor, int], Tensor] = self._predictor(condition, settings)
        if warm is not None:
            predict = near(predict, 2 * self._padded(warm.old) - 1, self._padded(warm.weight))
        return ddim(predict, x, times=times, eta=settings.eta, noise=noise, generator=generator)

    def save(self, path: str | Path) -> None:
        """Write the weights so that :func:`streamlight.load` gives this model back, with the default settings.

        Raises:
            ModelError: The file cannot be written.
        """
        keywords = json.dumps({"norm_groups": self.config.norm_groups})
        metadata = {"streamlight.architecture": CARD.name, "streamlight.keywords": keywords}
        write_safetensors(path, self.state_dict(), metadata=metadata)

    def _settings(self, changes: dict[str, Any]) -> Sampling:
        if unknown := sorted(set(changes) - {"steps", "eta", "t_start"}):
            raise ConfigError(f"decode has no setting {unknown[0]!r}; it takes steps, eta and t_start")
        return replace(self.sampling, **changes)

    def _predictor(self, condition: Condition, sampling: Sampling) -> WholeNoise | TiledNoise:
        maps = condition.features
        static = torch.cat([maps["y"], maps["color"]], dim=1)
        features = [maps[f"degradation_{i}"] for i in range(len(maps) - 2)]
        if sampling.tile is None:
            return WholeNoise(self.diff_unet, static, features)
        return TiledNoise(self.diff_unet, static, sampling=sampling, encode=self.encoder, features=features)

    def _padded(self, image: Tensor) -> Tensor:
        sampling = self.sampling
        height, width = image.shape[-2:]
        return pad(
            image,
            padded_sizes(height, width, padding=sampling.padding, tile=sampling.tile, whole=sampling.whole_encoder),
        )


def _shared(condition: Condition, latent: Tensor) -> Condition:
    """The condition of one picture, repeated for as many latents as there are."""
    count, *shape = condition.features["y"].shape
    if latent.ndim != 4 or list(latent.shape[1:]) != shape or (count != 1 and latent.shape[0] != count):
        raise ModelError(f"latent must be {(count, *shape)}, the padded frame's shape, got {tuple(latent.shape)}")
    if count == latent.shape[0]:
        return condition
    features = {name: value.expand(latent.shape[0], -1, -1, -1) for name, value in condition.features.items()}
    return Condition(condition.low.expand(latent.shape[0], -1, -1, -1), features, condition.recall)


def _check_temperature(temperature: float) -> None:
    if not 0.0 <= temperature < float("inf"):
        raise ConfigError(f"temperature must be 0 or more, got {temperature}")


def _check_picture(image: Tensor, name: str) -> None:
    if not isinstance(image, Tensor):
        raise ModelError(f"{name} must be one tensor (N, 3, H, W), frames all of one size, got {type(image).__name__}")
    shape = tuple(image.shape)
    if image.ndim != 4 or shape[1] != 3 or 0 in shape:
        raise ModelError(f"{name} must be (N, 3, H, W), RGB, and not empty, got {shape}")
    if not image.is_floating_point():
        raise ModelError(f"{name} must be floating point in [0, 1], got {image.dtype}")
