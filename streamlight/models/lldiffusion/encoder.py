"""The latent map encoder E: a dark picture as a pyramid of degradation features (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralConv2d(nn.Module):
    """3x3 convolution whose weight is divided by an estimate of its largest singular value.

    Miyato et al., arXiv:1802.05957, algorithm 1: with the stored vectors, σ = uᵀ·W·v for W as (out, in·3·3). In
    training mode every forward pass first does one power iteration, written to the buffers, without gradients
    through u and v. Always float32.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: 1 or 2.
        padding: Zeros around the input.
        bias: Whether a bias is added.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, padding: int = 0, bias: bool = False) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight_orig = nn.Parameter(torch.empty(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.register_buffer("weight_u", F.normalize(torch.randn(c_out), dim=0, eps=1e-12))
        self.register_buffer("weight_v", F.normalize(torch.randn(c_in * 9), dim=0, eps=1e-12))
        nn.init.kaiming_uniform_(self.weight_orig, a=5**0.5)

    def normalized_weight(self) -> Tensor:
        """The weight in use, ``weight_orig / σ``; steps the power iteration in training mode."""
        matrix = self.weight_orig.flatten(1)
        if self.training:
            with torch.no_grad():
                torch.mv(matrix.t(), self.weight_u, out=self.weight_v)
                F.normalize(self.weight_v, dim=0, eps=1e-12, out=self.weight_v)
                torch.mv(matrix, self.weight_v, out=self.weight_u)
                F.normalize(self.weight_u, dim=0, eps=1e-12, out=self.weight_u)
        # Copies, since a later training pass writes to the buffers before this one's backward pass has run.
        u, v = (self.weight_u.clone(), self.weight_v.clone()) if self.training else (self.weight_u, self.weight_v)
        return self.weight_orig / torch.dot(u, torch.mv(matrix, v))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C, H, W)``."""
        return F.conv2d(x, self.normalized_weight(), self.bias, self.stride, self.padding)


class NormalizedConv(nn.Sequential):
    """Spectrally normalised convolution without bias, then instance normalisation without weights."""

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(
            SpectralConv2d(c_in, c_out, stride=stride, padding=padding), nn.InstanceNorm2d(c_out, eps=1e-5)
        )


class ResidualBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions around a skip: ``lrelu(x + conv(lrelu(conv(x))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.LeakyReLU(0.2),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → the same shape; H and W at least 2."""
        return F.leaky_relu(x + self.conv_block(x), 0.2)


class ConvEncoder(nn.Module):
    """First part of E: five halvings, three residual blocks, three convolutions.

    Args:
        ch: Width e of the first layer; the last has 32·e channels.
    """

    def __init__(self, ch: int) -> None:
        super().__init__()
        self.layer1 = NormalizedConv(3, ch, stride=2, padding=1)
        self.layer2 = NormalizedConv(ch, 2 * ch, stride=2, padding=1)
        self.layer3 = NormalizedConv(2 * ch, 4 * ch, stride=2, padding=1)
        self.layer4 = NormalizedConv(4 * ch, 8 * ch, stride=2, padding=1)
        self.layer5 = NormalizedConv(8 * ch, 16 * ch, stride=2, padding=1)
        self.res_0 = ResidualBlock(16 * ch)
        self.res_1 = ResidualBlock(16 * ch)
        self.res_2 = ResidualBlock(16 * ch)
        stages: list[nn.Module] = []
        for c_in in (16 * ch, 32 * ch, 32 * ch):
            stages += [nn.ReflectionPad2d(1), NormalizedConv(c_in, 32 * ch), nn.LeakyReLU(0.2)]
        self.out = nn.Sequential(*stages)
        self.conv_7x7 = nn.Conv2d(ch, ch, 7)

    def forward(self, y: Tensor) -> Tensor:
        """Encode the dark picture.

        Args:
            y: ``(N, 3, H, W)`` in [-1, 1]; H and W multiples of 32, at least 64.

        Returns:
            ``(N, 32·e, H/32, W/32)``.
        """
        x = self.layer1(y)
        x = self.conv_7x7(F.pad(F.leaky_relu(x, 0.2), (3, 3, 3, 3), mode="reflect"))
        for layer in (self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(F.leaky_relu(x, 0.2))
        return self.out(self.res_2(self.res_1(self.res_0(x))))


class _Enlarge(nn.Module):
    """Transposed 3x3 convolution that doubles height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.module = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


class PriorUpsampler(nn.Module):
    """Second part of E: every stage doubles the size (the sixth keeps it); all results are degradation features.

    Args:
        c_in: Channels of the encoding.
        features: Channels of each feature, coarse (1/16) to fine; at most six.
    """

    def __init__(self, c_in: int, features: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for index, c_out in enumerate(features):
            enlarge = _Enlarge(c_in) if index < 5 else nn.Identity()
            conv = SpectralConv2d(c_in, c_out, bias=True)
            self.convs.append(nn.Sequential(enlarge, nn.ReflectionPad2d(1), conv, nn.LeakyReLU(0.2)))
            c_in = c_out

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(N, C, H/32, W/32)`` → features at 1/16, 1/8, 1/4, 1/2, 1 and 1 of H, W."""
        features = []
        x = x.contiguous(memory_format=torch.channels_last)  # which all stages keep, and the U-Nets want
        for stage in self.convs:
            x = stage(x)
            features.append(x)
        return features


class LatentMapEncoder(nn.Module):
    """E: dark picture → degradation features. They do not depend on the time step.

    Args:
        ch: Width e of the first layer.
        features: Channels of the degradation features, coarse to fine.
    """

    def __init__(self, ch: int, features: Sequence[int]) -> None:
        super().__init__()
        self.encoder = ConvEncoder(ch)
        self.upsample = PriorUpsampler(32 * ch, features)

    def forward(self, y: Tensor) -> list[Tensor]:
        """Features of ``y``, ``(N, 3, H, W)`` in [-1, 1], H and W multiples of 32 and at least 64."""
        return self.upsample(self.encoder(y))
