"""GLARE's three stages (Zhou et al., ECCV 2024): VQGAN, conditional flow on its latents, fusion decoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from streamlight.errors import ConfigError, ModelError
from streamlight.models import registry
from streamlight.models.glare.architecture import INSIDE, UNUSED, build
from streamlight.models.glare.config import AutoencoderConfig, FlowConfig, GlareConfig, deduce
from streamlight.models.glare.losses import Features, ms_ssim, stage2_loss, stage3_loss
from streamlight.models.glare.model import Glare
from streamlight.models.glare.network import trainable
from streamlight.models.glare.vqgan import VQGAN, SemanticHead
from streamlight.models.weights import Weights
from streamlight.training.task import Batch
from streamlight.training.tasks.adversary import PatchDiscriminator, play
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
from streamlight.training.tasks.vgg import perceptual_features, semantic_features

NAME = "glare"
Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


class _GlareOptions(TaskOptions):
    """Options of all three stages.

    Attributes:
        crop: Height and width of what is cut out of each pair; None takes pairs as they come.
    """

    crop: tuple[int, int] | None = None


class VQGANOptions(_GlareOptions):
    """Options of the task ``glare_vqgan``; the weights are those of the paper, as far as they are known.

    Attributes:
        network: Shape of encoder and decoder; may be left out where the run starts from a weights file.
        codes: Size of the codebook.
        codebook_from_data: Fill the codebook with latents of the first batch, so that no code starts out of reach.
        weight_codebook: Of codebook and commitment loss.
        weight_ssim: Of one minus the multi-scale structural similarity.
        weight_perceptual: Of the distance of VGG16 features; counts with ``perceptual``.
        weight_semantic: Of what ties codes to VGG19 features; counts with ``semantic``.
        weight_adversarial: Of the adversarial loss; 0 makes no discriminator.
        adversarial_after: Steps without it at the start.
        discriminator_width: Channels of the discriminator's first layer.
        perceptual: File with VGG16's weights; None leaves the term out.
        semantic: File with VGG19's weights; None leaves the term out.
    """

    network: AutoencoderConfig | None = None
    codes: Positive = 8192
    codebook_from_data: bool = False
    weight_codebook: Weight = 1.0
    weight_ssim: Weight = 0.2
    weight_perceptual: Weight = 0.01
    weight_semantic: Weight = 0.1
    weight_adversarial: Weight = 0.0005
    adversarial_after: Annotated[int, Field(ge=0)] = 0
    discriminator_width: Positive = 64
    perceptual: Path | None = None
    semantic: Path | None = None


class FlowOptions(_GlareOptions):
    """Options of the task ``glare_flow``.

    Attributes:
        network: Shape of the flow; the conditional encoder has that of the VQGAN.
        train_gt_ratio: Chance with which a batch takes the latent itself for the mean of its Gaussian.
        weight_l1: Weight of the distance, absolute and squared, between the latent that the mean decodes to and the
            VQGAN's.
    """

    network: FlowConfig = FlowConfig()
    train_gt_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    weight_l1: Weight = 0.0


class FusionOptions(_GlareOptions):
    """Options of the task ``glare_fusion``.

    Attributes:
        perceptual: File with VGG16's weights; None leaves the perceptual term out.
        teach_saturated: Let gradients through where a picture leaves [0, 1] and is clamped. Published training does
            not, and learns nothing at all where a network happens to begin out of range everywhere.
    """

    perceptual: Path | None = None
    teach_saturated: bool = False


class VQGANTask:
    """Stage I, ``glare_vqgan``: an autoencoder of well-lit pictures; the dark ones are not looked at."""

    Options = VQGANOptions

    def __init__(self, options: VQGANOptions, vqgan: VQGAN, config: GlareConfig, device: torch.device | str) -> None:
        parts: dict[str, nn.Module] = {"vqgan": vqgan}
        self._perceptual: Features | None = None
        self._semantic: Features | None = None
        if options.weight_adversarial:
            parts["discriminator"] = PatchDiscriminator(options.discriminator_width)
        if options.perceptual is not None:
            self._perceptual = perceptual_features(options.perceptual, device=device)
        if options.semantic is not None:
            self._semantic = semantic_features(options.semantic, device=device)
            parts["semantic"] = SemanticHead(config.autoencoder.z_channels)
        self.module = nn.ModuleDict(parts).to(device)
        self.captions: tuple[str, ...] = ("target", "reconstruction")
        self._options, self._config, self._vqgan = options, config, vqgan

    @classmethod
    def build(cls, options: VQGANOptions, *, start: Path | None, device: torch.device | str) -> VQGANTask:
        """Make the task.

        Args:
            options: Its section of the recipe.
            start: Stage I weights to go on from.
            device: Where the networks run.

        Raises:
            ConfigError: The options contradict each other, or the starting weights.
            ModelError: A weights file cannot be used.
        """
        found = None
        if start is not None:
            weights = starting_weights(start, NAME)
            found = _grouped(deduce(weights.tensors), weights)
            if found.stage != 1:
                raise _wrong_stage(start, found)
        wanted = None
        if options.network is not None:
            wanted = GlareConfig(stage=1, autoencoder=options.network, flow=None, codes=options.codes)
        config = agreed(wanted, found, start=start)
        _check_shape(config.autoencoder)
        vqgan = VQGAN(config.autoencoder, config.codes)
        check_deducible(vqgan, config, lambda state: _regrouped(deduce(state), config.autoencoder.norm_groups))
        if start is not None:
            fill(vqgan, weights, unused=UNUSED)
        return cls(options, vqgan, config, device)

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``l1``, ``codebook`` and, where they are switched on, ``ssim``, ``perceptual``, ``semantic``, ``deceive``.

        ``judge`` is the discriminator's own loss; ``codes`` is the share of the codebook in use.
        """
        options = self._options
        target = _cropped(batch, ("target",), options, self._config, generator)["target"]
        if options.codebook_from_data and step == 0:
            self._fill_codebook(target, generator)
        out = self._vqgan(target)
        image = out.image.float()
        terms = {"l1": F.l1_loss(image, target), "codebook": out.quantized.loss.float()}
        loss = terms["l1"] + options.weight_codebook * terms["codebook"]
        if options.weight_ssim:
            terms["ssim"] = ms_ssim(image.clamp(0.0, 1.0), target)
            loss = loss + options.weight_ssim * (1.0 - terms["ssim"])
        if self._perceptual is not None:
            pairs = zip(self._perceptual(image.clamp(0.0, 1.0)), self._perceptual(target), strict=True)
            terms["perceptual"] = torch.stack([F.mse_loss(ours, wanted) for ours, wanted in pairs]).mean()
            loss = loss + options.weight_perceptual * terms["perceptual"]
        if self._semantic is not None:
            terms["semantic"] = self.module["semantic"](out.quantized.values, self._semantic(target)[0])
            loss = loss + options.weight_semantic * terms["semantic"]
        if "discriminator" in self.module and step >= options.adversarial_after:
            game = play(self.module["discriminator"], image, target)  # type: ignore[arg-type]
            terms |= {"deceive": game.deceive, "judge": game.judge}
            loss = loss + options.weight_adversarial * game.deceive + game.judge
        used = len(out.quantized.indices.unique()) / self._config.codes
        return {"loss": loss, **terms, "codes": loss.new_tensor(used)}

    @torch.no_grad()
    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """The well-lit pictures and their reconstructions."""
        target = _to_stride(batch["target"], self._config)
        return [target, self._vqgan(target).image.clamp(0.0, 1.0)]

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The VQGAN under the official names; codebook and latent stay float32."""
        prefix = "vqgan."
        tensors = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        return _written(tensors, self._options, self._config)

    @torch.no_grad()
    def _fill_codebook(self, target: Tensor, generator: torch.Generator) -> None:
        latent = self._vqgan.encode(target).permute(0, 2, 3, 1).flatten(0, 2)
        codebook = self._vqgan.quantize.embedding.weight
        chosen = torch.randint(0, len(latent), (len(codebook),), generator=generator).to(latent.device)
        spread = latent.std(0, keepdim=True) * torch.randn(codebook.shape, generator=generator).to(latent.device)
        codebook.copy_(latent[chosen] + 0.05 * spread)


class FlowTask:
    """Stage II, ``glare_flow``: conditional encoder and flow, on latents of the frozen VQGAN."""

    Options = FlowOptions

    def __init__(self, options: FlowOptions, network: Glare, vqgan: VQGAN) -> None:
        network.vqgan = vqgan  # with its encoder, which makes the flow's targets
        trainable(network, 2)
        self.module: Glare = network
        self.captions: tuple[str, ...] = ("low", NAME, "target")
        self._options, self._vqgan = options, vqgan

    @classmethod
    def build(cls, options: FlowOptions, *, start: Path | None, device: torch.device | str) -> FlowTask:
        """Make the task.

        Args:
            options: Its section of the recipe.
            start: Weights of stage I.
            device: Where the networks run.

        Raises:
            ConfigError: The options contradict each other, or there is nothing to start from.
            ModelError: The starting weights cannot be used.
        """
        check_keywords(NAME, options.keywords)
        if start is None:
            raise ConfigError("start: missing; stage II needs the weights of stage I (glare_vqgan)")
        weights = starting_weights(start, NAME)
        found = _grouped(deduce(weights.tensors), weights)
        if found.stage != 1:
            raise _wrong_stage(start, found)
        if options.network.channels != found.autoencoder.z_channels:
            raise ConfigError(
                f"options.network.channels: is {options.network.channels}, but the latents of {start} have "
                f"{found.autoencoder.z_channels}"
            )
        vqgan = VQGAN(found.autoencoder, found.codes)
        fill(vqgan, weights, unused=UNUSED)
        config = replace(found, stage=2, flow=options.network)
        network = Glare(config)
        check_deducible(network, config, lambda state: _regrouped(deduce(state), config.autoencoder.norm_groups))
        return cls(options, network.to(device), vqgan.to(device))

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``nll`` in bits per latent position and, where it is weighted, ``l1`` of the decoded latent."""
        options, network = self._options, self.module
        pair = _cropped(batch, ("low", "target"), options, network.config, generator)
        with torch.no_grad(), torch.autocast(pair["low"].device.type, enabled=False):
            latent = self._vqgan.encode(pair["target"])
        ratio = options.train_gt_ratio
        if not options.weight_l1:
            nll = stage2_loss(network, pair["low"], latent, train_gt_ratio=ratio, generator=generator)
            return {"loss": nll, "nll": nll}
        conditioning = network.encode(pair["low"])
        mean = latent if bool(torch.rand((), generator=generator) < ratio) else conditioning.mean
        nll = network.flowUpsamplerNet.negative_log_likelihood(latent, conditioning.features, mean).mean()
        decoded = network.latent(conditioning.mean, conditioning)
        l1 = F.l1_loss(decoded, latent) + F.mse_loss(decoded, latent)
        return {"loss": nll + options.weight_l1 * l1, "nll": nll, "l1": l1}

    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """The dark pictures, what the normal-light decoder makes of the flow's latents, and the targets."""
        return _enhanced(self.module, batch)

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Encoder and flow, codebook and normal-light decoder in one file; conditional encoder and flow in float32."""
        return _written(state, self._options, self.module.config)


class FusionTask:
    """Stage III, ``glare_fusion``: the fusion decoder; all else is frozen."""

    Options = FusionOptions

    def __init__(self, options: FusionOptions, network: Glare, features: Features | None) -> None:
        trainable(network, 3)
        self.module: Glare = network
        self.captions: tuple[str, ...] = ("low", NAME, "target")
        self._options, self._features = options, features

    @classmethod
    def build(cls, options: FusionOptions, *, start: Path | None, device: torch.device | str) -> FusionTask:
        """Make the task.

        Args:
            options: Its section of the recipe.
            start: Weights of stage II, or III to go on with; a VQGAN that they lack lies beside them.
            device: Where the networks run.

        Raises:
            ConfigError: The options contradict each other, or there is nothing to start from.
            ModelError: The starting weights cannot be used.
        """
        check_keywords(NAME, options.keywords)
        if start is None:
            raise ConfigError("start: missing; stage III needs the weights of stage II (glare_flow)")
        weights = starting_weights(start, NAME)
        groups = _grouped(deduce(weights.tensors), weights).autoencoder.norm_groups
        earlier = build(weights, norm_groups=groups)
        network = Glare(replace(earlier.config, stage=3))
        left = network.load_state_dict(earlier.state_dict(), strict=False)
        assert not left.unexpected_keys
        features = None
        if options.perceptual is not None:
            features = perceptual_features(options.perceptual, device=device)
        return cls(options, network.to(device), features)

    def losses(self, batch: Batch, *, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``l1``, ``ms_ssim`` and, with VGG's weights, ``perceptual``."""
        pair = _cropped(batch, ("low", "target"), self._options, self.module.config, generator)
        image = self.module(pair["low"]).float()
        if self._options.teach_saturated:
            image = image.detach().clamp(0.0, 1.0) + (image - image.detach())
        found = stage3_loss(image, pair["target"], features=self._features)
        terms = {"loss": found.total, "l1": found.l1, "ms_ssim": found.ms_ssim}
        return terms if self._features is None else {**terms, "perceptual": found.perceptual}

    def pictures(self, batch: Batch, *, generator: torch.Generator) -> list[Tensor]:
        """The dark pictures, the results, and the targets."""
        return _enhanced(self.module, batch)

    def export(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """All that enhancement needs in one file; what decides on codes stays float32."""
        return _written(state, self._options, self.module.config)


def _wrong_stage(start: Path, found: GlareConfig) -> ModelError:
    return ModelError(f"{start}: start: expected weights of stage I (glare_vqgan), got those of stage {found.stage}")


def _enhanced(network: Glare, batch: Batch) -> list[Tensor]:
    training = network.training
    network.eval()
    with torch.no_grad():
        condition = network.condition(batch["low"])
        bright = network.decode(network.prior(condition).mean, condition)
    network.train(training)
    return [batch["low"], bright, batch["target"]]


_FLOAT32 = ("quantize.", "quant_conv.", "post_quant_conv.", "vqgan.quantize.", "vqgan.post_quant_conv.")


def _written(
    state: dict[str, Tensor], options: TaskOptions, config: GlareConfig
) -> tuple[dict[str, Tensor], dict[str, str]]:
    unwanted = (f"{INSIDE}encoder.", f"{INSIDE}quant_conv.")
    tensors = {name: tensor for name, tensor in state.items() if not name.startswith(unwanted)}
    # A latent that moves a little picks another code: conditional encoder and flow are stored as trained.
    exact = ("RRDB.", "flowUpsamplerNet.", *_FLOAT32)
    tensors = stored(tensors, half=options.half, keep=lambda name: name.startswith(exact))
    return tensors, describe(NAME, options, norm_groups=config.autoencoder.norm_groups)


def _cropped(
    batch: Batch, names: tuple[str, ...], options: _GlareOptions, config: GlareConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    pictures = random_crops(batch, names, size=options.crop, generator=generator)
    height, width = next(iter(pictures.values())).shape[-2:]
    stride = config.autoencoder.stride
    if height % stride or width % stride or min(height, width) < 16:
        raise ConfigError(
            f"glare trains on sizes that are multiples of {stride}, at least 16, got {width}x{height}: set "
            "options.crop or the data section's"
        )
    return pictures


def _to_stride(picture: Tensor, config: GlareConfig) -> Tensor:
    height, width = (side - side % config.autoencoder.stride for side in picture.shape[-2:])
    return picture[..., :height, :width]


def _grouped(config: GlareConfig, weights: Weights) -> GlareConfig:
    """With the groups that the file states, which shapes do not tell."""
    stated: Any = registry.stored_keywords(weights).get("norm_groups")
    return config if stated is None else _regrouped(config, int(stated))


def _regrouped(config: GlareConfig, groups: int) -> GlareConfig:
    return replace(config, autoencoder=replace(config.autoencoder, norm_groups=groups))


def _check_shape(shape: AutoencoderConfig) -> None:
    """What the constructors take for granted of a shape that comes from a recipe."""
    if min(shape.width, shape.norm_groups, shape.blocks, shape.z_channels, *shape.multipliers) < 1:
        raise ConfigError(f"options.network: all numbers must be positive, got {shape}")
    if shape.width % shape.norm_groups or shape.width % 4:
        raise ConfigError(
            f"options.network: width must be a multiple of norm_groups and of 4 (deformable groups), got {shape.width} "
            f"and {shape.norm_groups}"
        )
