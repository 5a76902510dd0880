"""LLDiffusion (Wang et al., arXiv:2307.14659): the joint phase with DGNET, and the phase with the encoder frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models import registry
from streamlight.models.lldiffusion.architecture import UNUSED
from streamlight.models.lldiffusion.config import GROUPS, LEVELS, LLDiffusionConfig, check_groups, deduce
from streamlight.models.lldiffusion.losses import antithetic_times, training_losses
from streamlight.models.lldiffusion.model import LLDiffusion
from streamlight.models.lldiffusion.preprocess import MINIMUM, MULTIPLE
from streamlight.models.lldiffusion.sampling import Sampling
from streamlight.models.weights import Weights
from streamlight.training.task import Batch
from streamlight.training.tasks.common import (
    TaskOptions,
    agreed,
    check_deducible,
    check_keywords,
    describe,
    fill,
    random_crops,
    starting_weights,
    stored,
)

NAME = "lldiffusion"
_DGNET = r"deg_unet\."


class LLDiffusionOptions(TaskOptions):
    """Options of the task ``lldiffusion``; the defaults are what the published configurations do.

    Attributes:
        network: Shape of the network; may be left out where the run starts from a weights file.
        phase: ``"joint"`` trains everything, DGNET included. ``"frozen"`` trains the DDDM alone: the encoder of the
            starting weights stays as it is, DGNET is left out.
        patch: Height and width of what is cut out of each pair, multiples of 32, at least 64; None takes pairs as they
            come.
        patches: Patches per pair; the batch of a step is that many times larger.
        image_weight: Weight of DGNET's loss in the joint phase: 0.1 for LOL, 1 for LOL-v2. 0 does without DGNET, which
            saves half of the work: the encoder then learns from the DDDM alone.
        clean_weight: Weight of the squared error of the clean picture that the predicted noise amounts to.
        keep_dgnet: Whether the exported file holds DGNET, which enhancement does not need.
        sheet_steps: Steps of the sampler for the sample sheets.
    """

    network: LLDiffusionConfig | None = None
    phase: Literal["joint", "frozen"] = "joint"
    patch: tuple[int, int] | None = (128, 128)
    patches: Annotated[int, Field(ge=1)] = 4
    image_weight: Annotated[float, Field(ge=0)] = 0.1
    clean_weight: Annotated[float, Field(ge=0)] = 0.0
    keep_dgnet: bool = True
    sheet_steps: Annotated[int, Field(ge=1, le=100)] = 10


class LLDiffusionTask:
    """The task ``lldiffusion``.

    Args:
        options: Its section of the recipe.
        network: The network, filled.
    """

    Options = LLDiffusionOptions

    def __init__(self, options: LLDiffusionOptions, network: LLDiffusion) -> None:
        self.module: LLDiffusion = network
        self.captions: tuple[str, ...] = ("low", NAME, "target")
        self._options = options
        self._frozen = options.phase == "frozen"
        network.encoder.requires_grad_(not self._frozen)

    @classmethod
    def build(cls, options: LLDiffusionOptions, *, start: Path | None, device: torch.device | str) -> LLDiffusionTask:
        """Make the task.

        Args:
            options: Its section of the recipe.
            start: LLDiffusion weights to go on from; the frozen phase cannot do without.
            device: Where the network runs.

        Raises:
            ConfigError: The options contradict each other, or the starting weights.
            ModelError: The starting weights cannot be used.
        """
        check_keywords(NAME, options.keywords)
        frozen = options.phase == "frozen"
        if frozen and start is None:
            raise ConfigError("phase: frozen keeps the encoder of a joint phase: name its weights with start")
        if options.patch is not None:
            _check_size(*options.patch, what="options.patch")
        weights = None if start is None else starting_weights(start, NAME)
        found, wanted = (None if weights is None else _found(weights)), options.network
        if frozen:
            found, wanted = _without_dgnet(found), _without_dgnet(wanted)
        config = agreed(wanted, found, start=start)
        if not frozen and options.image_weight and config.dgnet is None:
            raise ConfigError(
                "options.network.dgnet: missing; the joint phase trains DGNET too "
                "(or set phase: frozen, or image_weight: 0)"
            )
        _check_widths(config)
        network = LLDiffusion(config, sampling=Sampling(steps=options.sheet_steps))
        check_deducible(network, config, lambda state: replace(deduce(state), norm_groups=config.norm_groups))
        if weights is not None:
            fill(network, weights, unused=(*UNUSED, _DGNET) if frozen else UNUSED)
        return cls(options, network.to(device))

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``noise``, mean squared error of the predicted noise; DGNET's ``image`` and ``clean`` where they count."""
        options = self._options
        if self._frozen:
            self.module.encoder.eval()  # else its spectral norms would drift on
        pair = random_crops(batch, ("low", "target"), size=options.patch, count=options.patches, generator=generator)
        low, target = pair["low"], pair["target"]
        _check_size(low.shape[-2], low.shape[-1], what="pictures to train on")
        times = antithetic_times(len(low), generator=generator).to(low.device)
        noise = torch.randn(target.shape, generator=generator).to(low.device)
        weight = 0.0 if self._frozen else options.image_weight
        found = training_losses(
            self.module, low, target, t=times, noise=noise, image_weight=weight, clean_weight=options.clean_weight
        )
        terms = {"loss": found.total, "noise": found.noise}
        if weight:
            terms["image"] = found.image
        if options.clean_weight:
            terms["clean"] = found.clean
        return terms

    @torch.no_grad()
    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """The dark pictures, one sample each, and the targets."""
        training = self.module.training
        self.module.eval()
        condition = self.module.condition(batch["low"])
        shape = condition.features["y"].shape
        latent = torch.randn(shape, generator=generator).to(batch["low"].device)
        bright = self.module.decode(latent, condition)
        self.module.train(training)
        return [batch["low"], bright, batch["target"]]

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights under the official names; the vectors of the spectral norms stay float32."""
        if not self._options.keep_dgnet:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("deg_unet.")}
        tensors = stored(state, half=self._options.half, keep=lambda name: name.endswith(("weight_u", "weight_v")))
        groups = self.module.config.norm_groups
        return tensors, describe(NAME, self._options, **({} if groups == GROUPS else {"norm_groups": groups}))


def _found(weights: Weights) -> LLDiffusionConfig:
    """The network of a file, with the groups that it states, which shapes do not tell."""
    return replace(
        deduce(weights.tensors), norm_groups=int(registry.stored_keywords(weights).get("norm_groups", GROUPS))
    )


def _without_dgnet(config: LLDiffusionConfig | None) -> LLDiffusionConfig | None:
    return None if config is None else replace(config, dgnet=None)


def _check_size(height: int, width: int, *, what: str) -> None:
    if min(height, width) < MINIMUM or height % MULTIPLE or width % MULTIPLE:
        raise ConfigError(f"{what}: must be multiples of {MULTIPLE}, at least {MINIMUM}, got {width}x{height}")


def _check_widths(config: LLDiffusionConfig) -> None:
    """What the constructors take for granted of a shape that comes from a recipe."""
    check_groups(config.norm_groups)
    if not 1 <= len(config.features) <= LEVELS:
        raise ConfigError(f"options.network.features: 1 to {LEVELS} are possible, got {len(config.features)}")
    for name, unet in (("dddm", config.dddm), ("dgnet", config.dgnet)):
        if unet is None:
            continue
        if unet.ch % GROUPS or len(unet.ch_mult) != LEVELS:
            raise ConfigError(
                f"options.network.{name}: ch must be a multiple of {GROUPS} and ch_mult hold {LEVELS} factors, "
                f"got {unet.ch} and {list(unet.ch_mult)}"
            )
        if odd := [width for width in config.features if width % GROUPS]:
            raise ConfigError(f"options.network.features: must be multiples of {GROUPS}, got {odd[0]}")
