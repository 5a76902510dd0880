"""LLFlow ("Low-Light Image Enhancement with Normalizing Flow", Wang et al., AAAI 2022): negative log-likelihood."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import kornia.metrics
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models.llflow.config import LEVELS, SIZE_MULTIPLE, UNUSED, LLFlowConfig, deduce
from streamlight.models.llflow.encoder import Encoding, color_map_of
from streamlight.models.llflow.model import LLFlow
from streamlight.models.llflow.network import LLFlowNetwork, latent_mean
from streamlight.models.llflow.preprocess import equalization_table, network_input, to_codes
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

NAME = "llflow"


class LLFlowOptions(TaskOptions):
    """Options of the task ``llflow``; the defaults are what the published configurations do.

    Attributes:
        network: Shape of the network; may be left out where the run starts from a weights file.
        crop: Height and width of what is cut out of each pair, multiples of 8; None takes pairs as they come. The
            histogram is equalised over what comes, so that a crop made here, and not by the data section, sees the
            table of the whole picture, as in use.
        train_gt_ratio: Chance with which a batch centres the latent on the colour map of the bright picture.
        quant: Levels of the dequantisation: uniform noise, a level wide, on the bright picture. 8-bit pictures have no
            bounded likelihood without it. 0 adds none.
        weight_l1: Weight of the mean absolute error of the picture that the mean of the latent decodes to.
        weight_ssim: Weight of one minus its structural similarity to the target.
    """

    network: LLFlowConfig | None = None
    crop: tuple[int, int] | None = None
    train_gt_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    quant: Annotated[int, Field(ge=0)] = 0
    weight_l1: Annotated[float, Field(ge=0)] = 0.0
    weight_ssim: Annotated[float, Field(ge=0)] = 0.0


class LLFlowTask:
    """The task ``llflow``.

    Args:
        options: Its section of the recipe.
        network: The network, filled.
        config: Its shape.
    """

    Options = LLFlowOptions

    def __init__(self, options: LLFlowOptions, network: LLFlowNetwork, config: LLFlowConfig) -> None:
        self.module: LLFlowNetwork = network
        self.captions: tuple[str, ...] = ("low", NAME, "target")
        self._options, self._config = options, config

    @classmethod
    def build(cls, options: LLFlowOptions, *, start: Path | None, device: torch.device | str) -> LLFlowTask:
        """Make the task.

        Args:
            options: Its section of the recipe.
            start: LLFlow weights to go on from.
            device: Where the network runs.

        Raises:
            ConfigError: The options contradict each other, or the starting weights.
            ModelError: The starting weights cannot be used.
        """
        check_keywords(NAME, options.keywords)
        if options.crop is not None and any(side < SIZE_MULTIPLE or side % SIZE_MULTIPLE for side in options.crop):
            raise ConfigError(f"options.crop: must be multiples of {SIZE_MULTIPLE}, got {list(options.crop)}")
        weights = None if start is None else starting_weights(start, NAME)
        taps = None if options.network is None else options.network.taps
        found = None if weights is None else deduce(weights.tensors, taps=taps)
        config = agreed(options.network, found, start=start)
        _check_shape(config)
        network = LLFlowNetwork(config)
        check_deducible(network, config, lambda state: deduce(state, taps=config.taps))
        if weights is not None:
            fill(network, weights, unused=UNUSED)
        return cls(options, network.to(device), config)

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``nll`` in bits per pixel and, where they are weighted, ``l1`` and ``ssim`` of the decoded mean."""
        options = self._options
        table = equalization_table(to_codes(batch["low"]))
        patches = random_crops(batch, ("low", "target"), size=options.crop, generator=generator)
        low, target = patches["low"], patches["target"]
        if any(side % SIZE_MULTIPLE for side in low.shape[-2:]):
            raise ConfigError(
                f"llflow trains on sizes that are multiples of {SIZE_MULTIPLE}, got {low.shape[-1]}x{low.shape[-2]}: "
                "set options.crop or the data section's"
            )
        gt_mean = bool(torch.rand((), generator=generator) < options.train_gt_ratio)
        noisy = target
        if options.quant:
            noise = torch.rand(target.shape, generator=generator).to(target.device)
            noisy = target + (noise - 0.5) / options.quant
        encoding = self.module.RRDB(network_input(low, table=table))
        bits = self.module.likelihood(noisy, encoding, color_map=color_map_of(target) if gt_mean else None)[0]
        if options.quant:
            bits = bits + math.log2(options.quant)  # the noise's share of the likelihood, as published
        nll = bits.mean()
        terms = {"loss": nll, "nll": nll}
        return terms | self._picture_terms(encoding, nll, target) if options.weight_l1 + options.weight_ssim else terms

    def _picture_terms(self, encoding: Encoding, nll: Tensor, target: Tensor) -> dict[str, Tensor]:
        options = self._options
        with torch.autocast(target.device.type, enabled=False):
            wide = encoding.wide()
            picture = self.module.decode(latent_mean(wide.color_map), wide)[0]
            # Early in a run a single value can leave the flow at 1e10, and would drown all others.
            picture = picture.clamp(-1.0, 2.0)
            l1 = F.l1_loss(picture, target)
            terms = {"loss": nll + options.weight_l1 * l1, "l1": l1}
            if options.weight_ssim:
                terms["ssim"] = kornia.metrics.ssim(picture, target, 11).mean()
                terms["loss"] = terms["loss"] + options.weight_ssim * (1.0 - terms["ssim"])
        return terms

    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """The dark pictures, what the mean of the latent decodes to, and the targets."""
        model = LLFlow(self.module, self._config)
        condition = model.condition(batch["low"])
        return [batch["low"], model.decode(model.prior(condition).mean, condition), batch["target"]]

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights under the official names; the flow's own matrices and norms stay float32."""
        tensors = stored(state, half=self._options.half, keep=lambda name: name.endswith(("invconv.weight", ".logs")))
        return tensors, describe(NAME, self._options, taps=list(self._config.taps))


def _check_shape(shape: LLFlowConfig) -> None:
    """What the constructors take for granted of a shape that comes from a recipe."""
    if len(shape.steps) != LEVELS or min(shape.steps) < 1:
        raise ConfigError(f"options.network.steps: {LEVELS} positive numbers expected, got {list(shape.steps)}")
    if min(shape.nf, shape.nb, shape.growth, shape.hidden) < 1 or shape.plain_steps < 0:
        raise ConfigError(f"options.network: sizes must be positive, got {shape}")
