"""tonenet: its tone network and its denoiser, trained side by side.

The tone network learns two looks of the same pictures. The denoiser learns what the guided transfer makes of its
output, at full size: its target is the same tone curve on the dark picture before noise, blur and storage, so that it
is never asked to correct exposure, and detail that the transfer brings back costs it nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import kornia.metrics
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from streamlight.enhance.guided import transfer_eps
from streamlight.enhance.transfer import reference
from streamlight.errors import ConfigError
from streamlight.models.tonenet.network import TonenetConfig, TonenetNetwork, deduce
from streamlight.models.tonenet.tone import KNOTS, SATURATION_KNOTS, apply_tone
from streamlight.temporal import estimate_noise
from streamlight.training.task import Batch
from streamlight.training.tasks.common import (
    TaskOptions,
    agreed,
    check_keywords,
    describe,
    fill,
    starting_weights,
    stored,
)

NAME = "tonenet"
_FACTORS = (1, 2, 4)


class TonenetOptions(TaskOptions):
    """Options of the task ``tonenet``.

    Attributes:
        network: Shape of the network; may be left out where the run starts from a weights file.
        day_contrast: Contrast of the day look's target, as a share of the photograph's.
        day_saturation: Saturation of its middle and bright tones, likewise.
        night_brightness: Mean luma that the night look's target is darkened to, for a black and a well-lit input.
        exposure_jitter: Spread of the exposure of the tone network's inputs, in natural log units of encoded values.
        noise_jitter: Spread of the noise level that both networks are told.
        factors: How likely a small copy at 1/1, 1/2 and 1/4 of full size is.
        patch: Height and width of the denoiser's patches, in cells of the small copy.
        transfer_share: Share of the batch on which the denoiser is judged at full size too, which costs most.
        weight_denoise: Weight of its loss against that of the tone network.
    """

    network: TonenetConfig | None = None
    day_contrast: Annotated[float, Field(gt=0, le=2)] = 1.0
    day_saturation: Annotated[float, Field(ge=0, le=2)] = 1.0
    night_brightness: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0, lt=1)]] = (0.28, 0.38)
    exposure_jitter: Annotated[float, Field(ge=0, le=2)] = 0.4
    noise_jitter: Annotated[float, Field(ge=0, le=2)] = 0.5
    factors: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (
        0.25,
        0.35,
        0.4,
    )
    patch: tuple[int, int] = (96, 128)
    transfer_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    weight_denoise: Annotated[float, Field(ge=0)] = 0.05


class TonenetTask:
    """The task ``tonenet``.

    Args:
        options: Its section of the recipe.
        network: The networks, filled.
    """

    Options = TonenetOptions

    def __init__(self, options: TonenetOptions, network: TonenetNetwork) -> None:
        self.module: TonenetNetwork = network
        self.captions: tuple[str, ...] = ("low", "tone only", "night", "day", "target")
        self._options = options

    @classmethod
    def build(cls, options: TonenetOptions, *, start: Path | None, device: torch.device | str) -> TonenetTask:
        """Make the task.

        Args:
            options: Its section of the recipe.
            start: tonenet weights to go on from.
            device: Where the networks run.

        Raises:
            ConfigError: The options contradict each other, or the starting weights.
            ModelError: The starting weights cannot be used.
        """
        check_keywords(NAME, options.keywords)
        if not any(options.factors):
            raise ConfigError("options.factors: at least one of them must be above 0")
        if any(side < 16 or side % 8 for side in options.patch):
            raise ConfigError(f"options.patch: must be multiples of 8, at least 16, got {list(options.patch)}")
        weights = None if start is None else starting_weights(start, NAME)
        config = agreed(options.network, None if weights is None else deduce(weights.tensors), start=start)
        network = TonenetNetwork(config)
        if weights is not None:
            fill(network, weights)
        return cls(options, network.to(device))

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``tone`` and ``denoise``, and in ``smooth`` what keeps the curves calm."""
        tone, smooth = self._tone_losses(batch, generator)
        denoise = self._denoise_loss(batch, generator)
        loss = tone + smooth + self._options.weight_denoise * denoise
        return {"loss": loss, "tone": tone, "smooth": smooth, "denoise": denoise}

    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """Dark pictures, their tone alone, both looks after the transfer, and the targets."""
        low = to_ycbcr(batch["low"])
        columns = [batch["low"]]
        for look, denoise in ((1.0, False), (0.0, True), (1.0, True)):
            small = F.avg_pool2d(low, 2)
            noise = noise_of(small)
            latent = self.module.tone(small, noise, torch.full_like(noise, look))
            bright, gain = apply_tone(latent, small, noise=noise)
            if denoise:
                bright = self.module.denoiser(bright, small, gain, noise)
            luma, chroma = transferred(low, small, bright, factor=2, noise=noise, denoised=denoise)
            chroma = F.interpolate(chroma, size=luma.shape[-2:], mode="bilinear")
            columns.append(to_rgb(torch.cat([luma, chroma], 1)).clamp(0.0, 1.0))
        return [*columns, batch["target"]]

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights under their own names."""
        return stored(state, half=self._options.half, keep=lambda name: False), describe(NAME, self._options)

    def _tone_losses(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        options = self._options
        # Small pictures say all that a curve is decided on; half the size again costs a quarter.
        shrink = 8 if torch.rand((), generator=generator) < 0.6 else 4
        low, target = to_ycbcr(F.avg_pool2d(batch["low"], shrink)), F.avg_pool2d(batch["target"], shrink)
        count = len(low)
        noise = noise_of(to_ycbcr(F.avg_pool2d(batch["low"], 4)))
        exposure = self._jitter(count, options.exposure_jitter, generator).to(low)[:, None, None, None]
        low = torch.cat([(low[:, :1] * exposure).clamp(0.0, 1.0), low[:, 1:] * exposure], 1)
        look = (torch.rand(count, generator=generator) < 0.6).to(low)
        noise = noise * self._jitter(count, options.noise_jitter, generator).to(low)
        latent = self.module.tone(low, noise, look)
        bright = to_rgb(apply_tone(latent, low, noise=noise)[0])
        wanted = torch.where(look[:, None, None, None] > 0.5, self._day(target), self._night(target, low))
        curve, saturation = latent[:, 1 : 1 + KNOTS], latent[:, 1 + KNOTS : 1 + KNOTS + SATURATION_KNOTS]
        bend = curve.diff(dim=1).diff(dim=1).abs().mean() + saturation.diff(dim=1).abs().mean()
        # Log gain may fall along the curve, but not so fast that brighter pixels end up darker.
        fall = F.relu(-curve.diff(dim=1) - 0.35).mean()
        return _tone_loss(bright, wanted), 0.002 * bend + 0.1 * fall

    def _denoise_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        options = self._options
        if "clean" not in batch:
            raise ConfigError("tonenet's denoiser learns from synthetic pairs: data.clean must be true, without pairs")
        chances = torch.tensor(options.factors, dtype=torch.float32)
        height, width = batch["low"].shape[-2:]
        fits = torch.tensor([options.patch[0] * f <= height and options.patch[1] * f <= width for f in _FACTORS])
        if not bool((chances * fits).any()):
            raise ConfigError(f"options.patch {list(options.patch)} is larger than pictures of {width}x{height}")
        factor = _FACTORS[int(torch.multinomial(chances * fits, 1, generator=generator))]
        place = _window(batch["low"], factor, options.patch, generator)
        with torch.no_grad():
            whole = to_ycbcr(F.avg_pool2d(batch["low"], 4))
            look = (torch.rand(len(whole), generator=generator) < 0.5).to(whole)
            latent = self.module.tone(whole, noise_of(whole), look)
            small, clean = (to_ycbcr(F.avg_pool2d(batch[name][place], factor)) for name in ("low", "clean"))
            noise = noise_of(small) * self._jitter(len(small), options.noise_jitter, generator).to(small)
            toned, gain = apply_tone(latent, small, noise=noise)
            wanted, _ = apply_tone(latent, clean, noise=noise)
        bright = self.module.denoiser(toned, small, gain, noise)
        loss = _log_error(bright[:, :1], wanted[:, :1]) + 0.6 * _log_error(bright[:, 1:], wanted[:, 1:])
        some = slice(0, max(1, round(options.transfer_share * len(small))))
        low, clean = (to_ycbcr(batch[name][place][some]) for name in ("low", "clean"))
        with torch.no_grad():
            wanted, _ = apply_tone(latent[some], clean, noise=noise[some])
        luma, chroma = transferred(low, small[some], bright[some], factor=factor, noise=noise[some], denoised=True)
        wanted_chroma = F.avg_pool2d(wanted[:, 1:], 2) if factor > 1 else wanted[:, 1:]
        # Structure is compared at half the size at most: the transfer cannot invent any below that, and it costs less.
        result, true = (F.avg_pool2d(image.clamp(0.0, 1.0), min(factor, 2)) for image in (luma, wanted[:, :1]))
        likeness = kornia.metrics.ssim(result, true, 7).mean()
        return loss + _log_error(luma, wanted[:, :1]) + 0.6 * _log_error(chroma, wanted_chroma) + 3.0 * (1.0 - likeness)

    def _day(self, target: Tensor) -> Tensor:
        """As bright as daylight, with shadows and highlights closer together."""
        contrast, saturation = self._options.day_contrast, self._options.day_saturation
        ycbcr = to_ycbcr(target)
        luma = ycbcr[:, :1]
        middle = luma.mean((1, 2, 3), keepdim=True)
        share = ((luma - 0.1) / 0.3).clamp(0.0, 1.0)
        chroma = ycbcr[:, 1:] * (1.0 + (saturation - 1.0) * share)
        return to_rgb(torch.cat([middle + contrast * (luma - middle), chroma], 1)).clamp(0.0, 1.0)

    def _night(self, target: Tensor, low: Tensor) -> Tensor:
        """Darkened by a power, which keeps black black and lamps bright: the less light there was, the more."""
        dark, lit = self._options.night_brightness
        mean = to_ycbcr(target)[:, 0].mean((1, 2)).clamp(0.02, 0.95)
        level = (low[:, 0].mean((1, 2)) / 0.4).clamp(0.0, 1.0)
        goal = torch.minimum(dark + (lit - dark) * level, mean)
        return target ** (goal.log() / mean.log()).clamp(1.0, 1.8)[:, None, None, None]

    @staticmethod
    def _jitter(count: int, spread: float, generator: torch.Generator) -> Tensor:
        return ((torch.rand(count, generator=generator) * 2.0 - 1.0) * spread).exp()


_RGB_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def to_ycbcr(rgb: Tensor) -> Tensor:
    """BT.601 full range, ``(N, 3, H, W)``; chroma in [-0.5, 0.5]."""
    return torch.einsum("ij,njhw->nihw", rgb.new_tensor(_RGB_TO_YCBCR), rgb)


def to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of :func:`to_ycbcr`, not clipped."""
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(ycbcr.new_tensor(_RGB_TO_YCBCR)), ycbcr)


def noise_of(small: Tensor) -> Tensor:
    """The noise that the enhancer would measure on each small copy, ``(N,)``."""
    return torch.stack([estimate_noise(luma) for luma in small[:, 0]])


def transferred(
    low: Tensor, small: Tensor, bright: Tensor, *, factor: int, noise: Tensor, denoised: bool
) -> tuple[Tensor, Tensor]:
    """What the guided transfer makes of a small result, differentiable.

    Args:
        low: ``(N, 3, H, W)`` YCbCr; chroma is subsampled here as in 4:2:0 where ``factor`` is above 1.
        small: Its small copy.
        bright: What the small copy becomes.
        factor: Size of a cell.
        noise: Luma noise of the small copy, ``(N,)``.
        denoised: Whether ``bright`` is free of it.

    Returns:
        Luma, ``(N, 1, H, W)``, and chroma, ``(N, 2, H', W')``.
    """
    eps = transfer_eps(noise[:, None, None, None], denoised=denoised)
    planes = ((low[:, :1], slice(0, 1), 1, factor), (low[:, 1:], slice(1, 3), 2, max(1, factor // 2)))
    done = []
    for (plane, channels, radius, step), strength in zip(planes, eps, strict=True):
        if radius == 2 and factor > 1:
            plane = F.avg_pool2d(plane, 2)
        a, b = reference.fit(small[:, channels], bright[:, channels], radius=radius, eps=strength)
        size = (plane.shape[-2], plane.shape[-1])
        done.append(reference.expand_by(a, step, size) * plane + reference.expand_by(b, step, size))
    return done[0], done[1]


def _window(
    pictures: Tensor, factor: int, patch: tuple[int, int], generator: torch.Generator
) -> tuple[slice, slice, slice, slice]:
    """Where the patch of a step lies, on whole cells."""
    sides = []
    for whole, cells in zip(pictures.shape[-2:], patch, strict=True):
        free = (whole - cells * factor) // factor
        start = int(torch.randint(0, free + 1, (), generator=generator)) * factor
        sides.append(slice(start, start + cells * factor))
    return slice(None), slice(None), sides[0], sides[1]


def _tone_loss(bright: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error, as it is and at equal brightness; structure; and lamps that burn what lies around them."""
    level = wanted.mean((1, 2, 3), keepdim=True) / bright.mean((1, 2, 3), keepdim=True).clamp_min(0.02)
    luma, wanted_luma = to_ycbcr(bright)[:, :1], to_ycbcr(wanted)[:, :1]
    likeness = kornia.metrics.ssim(luma, wanted_luma, 7).mean()
    burnt = (F.relu(luma - 0.88) * (wanted_luma < 0.82)).mean()
    return (
        F.l1_loss(bright, wanted)
        + 0.5 * F.l1_loss(bright * level.clamp(0.3, 3.0), wanted)
        + 0.1 * (1.0 - likeness)
        + 4.0 * burnt
    )


def _log_error(result: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the pictures of the log of their mean square error, down to 50 dB.

    A decibel counts the same in a clean picture as in a hopeless one; otherwise the hopeless ones teach to smooth.
    """
    return ((result - wanted).square().mean((1, 2, 3)) + 1e-5).log().mean()
