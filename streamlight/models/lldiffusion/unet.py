"""The U-Net that both the DDDM (``diff_unet``) and DGNET (``deg_unet``) are (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamlight.models.lldiffusion.config import GROUPS, LEVELS, UNetConfig
from streamlight.models.nn.attention import SpatialAttention
from streamlight.models.nn.resblock import Downsample, ResBlock, Upsample, group_norm, swish
from streamlight.models.nn.timestep import TimeEmbedding


class ChannelGate(nn.Module):
    """Squeeze-and-excitation (Hu et al., arXiv:1709.01507): channels scaled by a function of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 16, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 16, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → the same shape."""
        return x * self.attention(x)


class _Down(nn.Module):
    """One level on the way down: ResBlocks, each with attention or not, then a halving."""

    def __init__(
        self, blocks: Sequence[ResBlock], attention: Sequence[SpatialAttention], downsample: Downsample | None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(attention)
        self.downsample = downsample

    def forward(self, stack: list[Tensor], temb: Tensor | None) -> None:
        """Go on from the end of ``stack`` and append every result to it: they are the skips."""
        for index, block in enumerate(self.block):
            x = block(stack[-1], temb)
            stack.append(self.attn[index](x) if self.attn else x)
        if self.downsample is not None:
            stack.append(self.downsample(stack[-1]))


class _Middle(nn.Module):
    """The coarsest level. Its ResBlocks are not told the time step, in the published networks neither."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups=groups)
        self.attn_1 = SpatialAttention(channels, groups=groups)
        self.block_2 = ResBlock(channels, channels, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class _Up(nn.Module):
    """One level on the way up: ResBlocks, each joined by a skip, with attention or not, then a doubling."""

    def __init__(
        self, blocks: Sequence[ResBlock], attention: Sequence[SpatialAttention], upsample: Upsample | None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(attention)
        self.upsample = upsample

    def forward(self, stack: list[Tensor], temb: Tensor | None, feature: Tensor | None) -> None:
        """Take the state off the end of ``stack``, then the skips, and append the new state.

        The stack owns the state, so that nobody else keeps a tensor of full size alive that is not needed any more.
        """
        x = stack.pop()
        for index, block in enumerate(self.block):
            if index == 0 and feature is not None:
                x = torch.cat([x, feature, stack.pop()], dim=1)
            else:
                x = torch.cat([x, stack.pop()], dim=1)
            x = block(x, temb)
            if self.attn:
                x = self.attn[index](x)
        stack.append(x if self.upsample is None else self.upsample(x))


class _Fuse(nn.Module):
    """Gates of injected features, by the decoder level they stand before."""

    def __init__(self, gates: dict[str, nn.Module]) -> None:
        super().__init__()
        self.cattns = nn.ModuleDict(gates)

    def forward(self, stack: list[Tensor], feature: Tensor, index: int) -> None:
        """Join a feature to the state at the end of ``stack`` and weigh the channels of both."""
        stack.append(self.cattns[str(index)](torch.cat([stack.pop(), feature], dim=1)))


class UNet(nn.Module):
    """Six-level U-Net whose decoder is fed the degradation features.

    Feature i (1/16, 1/8, … of the size) joins the decoder at level i + 1 before the skips; a sixth joins before the
    head. The number of levels is that of the encoder's halvings plus one.

    Args:
        config: Its shape.
        features: Channels of the degradation features, coarse to fine.
        norm_groups: Groups of every normalisation.
    """

    def __init__(self, config: UNetConfig, features: Sequence[int], *, norm_groups: int = GROUPS) -> None:
        super().__init__()
        widths = [config.ch * factor for factor in config.ch_mult]
        temb = 4 * config.ch if config.time else 0
        if config.time:
            self.temb = TimeEmbedding(config.ch)
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)

        skips, current = [config.ch], config.ch
        levels = []
        for level, width in enumerate(widths):
            blocks = [
                ResBlock(current if j == 0 else width, width, embedding_channels=temb, groups=norm_groups)
                for j in range(config.num_res_blocks)
            ]
            attended = level in config.attn_levels
            attention = [SpatialAttention(width, groups=norm_groups) for _ in blocks] if attended else []
            last = level == LEVELS - 1
            levels.append(_Down(blocks, attention, None if last else Downsample(width)))
            skips += [width] * (len(blocks) + (not last))
            current = width
        self.down = nn.ModuleList(levels)
        self.mid = _Middle(current, groups=norm_groups)

        self.up = nn.ModuleDict()  # levels, "0" the coarsest, and beside them the gates of injected features
        gates: dict[str, nn.Module] = {}
        for index, width in enumerate(reversed(widths)):
            if 1 <= index <= len(features):
                current += features[index - 1]
                if config.fuse_mode == "cattn":
                    gates[str(index)] = ChannelGate(current)
            blocks = []
            for _ in range(config.num_res_blocks + 1):
                joined = current + skips.pop()
                blocks.append(ResBlock(joined, width, embedding_channels=temb, groups=norm_groups))
                current = width
            attended = LEVELS - 1 - index in config.attn_levels
            attention = [SpatialAttention(width, groups=norm_groups) for _ in blocks] if attended else []
            self.up[str(index)] = _Up(blocks, attention, None if index == LEVELS - 1 else Upsample(width))
        if gates:
            self.up["fuse"] = _Fuse(gates)

        current += features[LEVELS - 1] if len(features) == LEVELS else 0
        self.norm_out = group_norm(current, norm_groups)
        self.conv_out = nn.Conv2d(current, config.out_ch, 3, padding=1)

    def forward(self, x: Tensor, features: Sequence[Tensor], t: Tensor | None = None) -> Tensor:
        """Predict noise (DDDM) or a dark picture (DGNET).

        Args:
            x: ``(N, in_channels, H, W)``, H and W multiples of 32.
            features: Degradation features of the dark picture, coarse to fine, ``(N, …)`` each.
            t: Time steps, ``(N,)`` or ``(1,)``, 0 to 999; only for a network with a time embedding.

        Returns:
            ``(N, out_ch, H, W)``, not bounded.
        """
        temb = self.temb(t).to(self.working_dtype) if t is not None else None
        stack = [self.conv_in(x).to(self.working_dtype)]
        for level in self.down:
            level(stack, temb)
        stack.append(self.mid(stack[-1]))
        for index in range(LEVELS):
            feature = features[index - 1] if 1 <= index <= len(features) else None
            if feature is not None and "fuse" in self.up:
                self.up["fuse"](stack, feature, index)
                feature = None
            self.up[str(index)](stack, temb, feature)
        x = stack.pop()
        if len(features) == LEVELS:
            x = torch.cat([x, features[-1]], dim=1)
        return self.conv_out(swish(self.norm_out(x.to(self.conv_out.weight.dtype))))

    def work_in(self, dtype: torch.dtype) -> None:
        """Set the precision of everything between the first convolution and the head.

        The two ends stay as they are: rounding the state or the predicted noise itself costs more than all the rest,
        since the first steps of a trajectory magnify it a hundredfold.
        """
        for part in (self.down, self.mid, self.up):
            part.to(dtype)

    @property
    def working_dtype(self) -> torch.dtype:
        """Precision between the first convolution and the head; features are wanted in it."""
        return self.mid.block_1.conv1.weight.dtype
