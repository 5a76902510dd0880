"""Encoder and decoder that GLARE's three networks share (GLARE, section 3.1; after VQGAN, arXiv:2012.09841).

The conditional encoder, the VQGAN and the fusion decoder differ in what surrounds these two, not in their layers.
Levels count from 0 at full resolution to the coarsest, where the latent lives.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from streamlight.models.glare.config import AutoencoderConfig
from streamlight.models.nn.attention import SpatialAttention
from streamlight.models.nn.resblock import Downsample, ResBlock, Upsample, group_norm, swish


class _Level(nn.Module):
    """Residual blocks, each followed by attention where the level has it, then a change of size."""

    def __init__(self, blocks: list[ResBlock], attention: bool, resize: Literal["down", "up", ""], groups: int) -> None:
        super().__init__()
        channels = blocks[-1].conv2.out_channels
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(SpatialAttention(channels, groups=groups) for _ in blocks if attention)
        self.downsample = Downsample(channels) if resize == "down" else None
        self.upsample = Upsample(channels) if resize == "up" else None

    def forward(self, h: Tensor) -> Tensor:
        """The blocks and attention, at the level's size."""
        for index, block in enumerate(self.block):
            h = block(h)
            if self.attn:
                h = self.attn[index](h)
        return h


class _Middle(nn.Module):
    """Residual block, attention, residual block at the coarsest level."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups=groups)
        self.attn_1 = SpatialAttention(channels, groups=groups)
        self.block_2 = ResBlock(channels, channels, groups=groups)

    def forward(self, h: Tensor) -> Tensor:
        """``(N, C, h, w)`` to the same shape."""
        return self.block_2(self.attn_1(self.block_1(h)))


class Encoder(nn.Module):
    """Image to latent, with the feature of every level on the way."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        groups, width = config.norm_groups, config.width
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList()
        channels = width
        for level in range(config.levels):
            blocks = []
            for _ in range(config.blocks):
                blocks.append(ResBlock(channels, config.channels(level), groups=groups))
                channels = config.channels(level)
            resize: Literal["down", ""] = "down" if level + 1 < config.levels else ""
            self.down.append(_Level(blocks, level in config.attention, resize, groups))
        self.mid = _Middle(channels, groups)
        self.norm_out = group_norm(channels, groups)
        self.conv_out = nn.Conv2d(channels, config.z_channels, 3, padding=1)

    def forward(self, image: Tensor, *, taps: bool = True) -> tuple[Tensor, list[Tensor]]:
        """Encode.

        Args:
            image: ``(N, 3, H, W)``, H and W multiples of the config's stride.
            taps: Whether to keep the features.

        Returns:
            The latent ``(N, z, h, w)``, and the features F0, F1, … of all levels but the coarsest (after their last
            residual block, before downsampling); an empty list without ``taps``.
        """
        h = self.conv_in(image).to(_body_dtype(self.mid))
        features = []
        for level in _levels(self.down):
            h = level(h)
            if level.downsample is not None:
                if taps:
                    features.append(h)
                h = level.downsample(h)
        h = self.mid(h).to(self.conv_out.weight.dtype)
        return self.conv_out(swish(self.norm_out(h))), features


class Decoder(nn.Module):
    """Latent to image.

    Args:
        config: Shape.
        head: Name under which the last convolution is stored.
    """

    def __init__(self, config: AutoencoderConfig, *, head: str = "conv_out") -> None:
        super().__init__()
        groups, top = config.norm_groups, config.levels - 1
        channels = config.channels(top)
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = _Middle(channels, groups)
        levels: list[_Level] = []
        for level in range(top, -1, -1):
            blocks = []
            for _ in range(config.blocks + 1):
                blocks.append(ResBlock(channels, config.channels(level), groups=groups))
                channels = config.channels(level)
            levels.insert(0, _Level(blocks, level in config.attention, "up" if level else "", groups))
        self.up = nn.ModuleList(levels)
        self.norm_out = group_norm(channels, groups)
        self._head = head
        self.add_module(head, nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        """``(N, z, h, w)`` to an image ``(N, 3, H, W)``, not clamped."""
        return self.finish(self._descend(latent)[0])

    def features(self, latent: Tensor) -> list[Tensor]:
        """The features N0, N1, … of all levels but the coarsest, as :meth:`Encoder.forward` orders them.

        The layers behind the last one (``norm_out`` and the image convolution) are not run.
        """
        return self._descend(latent)[1]

    def image_and_features(self, latent: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What :meth:`forward` and :meth:`features` return, in one pass."""
        h, features = self._descend(latent)
        return self.finish(h), features

    @property
    def dtype(self) -> torch.dtype:
        """Type of the wide layers."""
        return _body_dtype(self.mid)

    def level(self, number: int) -> _Level:
        """The layers of a level."""
        return _levels(self.up)[number]

    def start(self, latent: Tensor) -> Tensor:
        """First convolution and middle: ``(N, z, h, w)`` to ``(N, C, h, w)``."""
        return self.mid(self.conv_in(latent).to(_body_dtype(self.mid)))

    def finish(self, h: Tensor) -> Tensor:
        """Last normalisation and convolution: full-size feature to image."""
        head = cast(nn.Conv2d, self.get_submodule(self._head))
        return head(swish(self.norm_out(h.to(head.weight.dtype))))

    def _descend(self, latent: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = self.start(latent)
        features: list[Tensor] = []
        for number, level in reversed(list(enumerate(_levels(self.up)))):
            h = level(h)
            if number < len(self.up) - 1:
                features.insert(0, h)
            if level.upsample is not None:
                h = level.upsample(h)
        return h, features


def _levels(modules: nn.ModuleList) -> list[_Level]:
    return cast(list[_Level], list(modules))


def _body_dtype(middle: _Middle) -> torch.dtype:
    """Type of the wide layers; the first and last layers of a network may keep a wider one."""
    return middle.block_1.conv1.weight.dtype
