"""LLFlow's network rearranged for enhancement: the same function as the reference, in fewer and larger pieces.

What changes against :class:`~streamlight.models.llflow.network.LLFlowNetwork`:

* ActNorms and the scales of zero convolutions are folded into the convolutions beside them; the inverse 1x1
  convolution, the inverse ActNorm and the plain steps after it become one matrix per step, multiplied in float64.
* What a coupling computes from the condition alone, 93 % of the flow's work, is computed once per frame and shared
  by all samples that are decoded for it.
* Channels lie innermost, and on a CPU chains of convolutions run in strips that stay in the cache.
* In bfloat16 or float16 the convolutions of the encoder and inside the couplings run in that type. The latent, the
  couplings' affine maps, the 1x1 convolutions, the residual sums and the colour map stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.models.llflow.encoder import ConditionalEncoder, Encoding, noise_map, raw_color_map
from streamlight.models.llflow.network import ConditionalFlow, LLFlowNetwork
from streamlight.models.nn.bands import in_bands
from streamlight.models.nn.flow import COUPLING_EPS, ActNormConv2d, ConditionalAffineCoupling, FlowStep, ZeroConv2d
from streamlight.models.nn.rrdb import RESIDUAL, RRDB, SLOPE
from streamlight.models.nn.strips import Kernel, collect, dense_block, empty, in_strips, rows_with_halo, strip_rows


class PreparedNetwork:
    """Encoder and decoder with the network's weights at the time of construction.

    Args:
        network: The reference network.
        dtype: Working precision of the convolutions.
    """

    def __init__(self, network: LLFlowNetwork, dtype: torch.dtype = torch.float32) -> None:
        with torch.no_grad():
            self.encoder = PreparedEncoder(network.RRDB, dtype)
            self.flow = PreparedFlow(network.flowUpsamplerNet, dtype)

    def encode(self, lq: Tensor) -> Encoding:
        """As the reference encoder; the conditions are in working precision, the colour map in float32."""
        return self.encoder(lq)

    def decode(self, z: Tensor, encoding: Encoding) -> Tensor:
        """The picture of a latent, ``(S·N, 3, H, W)`` float32, not clamped.

        Args:
            z: ``(S·N, 192, H/8, W/8)``: S samples of N pictures, the pictures of one sample together.
            encoding: Of the N pictures.
        """
        return self.flow(z, encoding.conditions)


class PreparedEncoder:
    """The conditional encoder on folded weights."""

    def __init__(self, encoder: ConditionalEncoder, dtype: torch.dtype) -> None:
        self.dtype, self.taps = dtype, encoder.taps
        self.conv_first = Kernel.of(encoder.conv_first, dtype)
        self.conv_second = Kernel.of(encoder.conv_second, dtype)
        self.blocks = [_dense_kernels(block, dtype) for block in encoder.RRDB_trunk]
        self.trunk_conv = Kernel.of(encoder.trunk_conv, dtype)
        self.downconv1 = Kernel.of(encoder.downconv1, dtype)
        self.downconv2 = Kernel.of(encoder.downconv2, dtype)
        self.color = Kernel.of(encoder.fine_tune_color_map[0], torch.float32)  # type: ignore[arg-type]

    def __call__(self, lq: Tensor) -> Encoding:
        """Encode ``lq``, ``(N, 6, H, W)`` float32."""
        color = raw_color_map(lq)
        stacked_input = torch.cat([lq, color, noise_map(color)], 1)
        head = self._head(stacked_input.to(self.dtype).contiguous(memory_format=torch.channels_last))
        trunk, taps = head, {}
        for index, block in enumerate(self.blocks):
            start = trunk
            for kernels in block:
                trunk = dense_block(trunk, kernels, slope=SLOPE, residual=RESIDUAL)
            trunk = torch.add(start, trunk, alpha=RESIDUAL)
            if index in self.taps:
                taps[index] = trunk.to(self.dtype)
        half = head + self.trunk_conv(trunk.to(self.dtype))
        color_map = F.interpolate(self.color(half).sigmoid_(), scale_factor=2, mode="nearest")
        quarter = F.leaky_relu_(self.downconv1(F.avg_pool2d(half, 2).to(self.dtype)), SLOPE)
        eighth = self.downconv2(F.avg_pool2d(quarter, 2))
        stacked = [taps[index] for index in self.taps]
        return Encoding(
            color_map=color_map,
            conditions=tuple(
                torch.cat([own.to(self.dtype), *(tap[:, :, ::stride, ::stride] for tap in stacked)], 1)
                for own, stride in ((half, 1), (quarter, 2), (eighth, 4))
            ),
        )

    def _head(self, x: Tensor) -> Tensor:
        """The two convolutions at full resolution and their 2x2 maximum, on a CPU in strips; float32."""
        if not in_strips(x):
            return F.max_pool2d(self.conv_second(F.leaky_relu_(self.conv_first(x), SLOPE)), 2).float()
        n, _, height, width = x.shape
        nf = self.conv_first.weight.shape[0]

        def strip(picture: int, start: int, stop: int) -> Tensor:
            rows = rows_with_halo(x[picture : picture + 1], 2 * start, 2 * stop, 2)
            features = F.leaky_relu_(self.conv_first(rows, padding=(0, 1)), SLOPE)
            # Beyond the picture's border the second convolution reads zeros, not the first one's answer to zeros.
            if start == 0:
                features[:, :, 0] = 0.0
            if 2 * stop == height:
                features[:, :, -1] = 0.0
            return F.max_pool2d(self.conv_second(features, padding=(0, 1)), 2).float()

        rows = strip_rows(x, 4 * width * nf * x.dtype.itemsize)
        return collect((n, nf, height // 2, width // 2), x[:, :3].float(), rows, strip)


class PreparedFlow:
    """The flow's inverse on folded weights."""

    def __init__(self, flow: ConditionalFlow, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.levels: list[tuple[list[_Coupling], list[tuple[Tensor, Tensor]]]] = []
        for level in range(max(flow.levels) + 1):
            layers = zip(flow.layers, flow.levels, strict=True)
            steps = [layer for layer, at in layers if at == level and isinstance(layer, FlowStep)]
            plain = [step for step in steps if step.affine is None]
            coupled = [step for step in steps if step.affine is not None]
            maps = [_inverse_map([step]) for step in coupled]
            # Decoding ends a level with its first coupled step, after which only plain steps follow.
            maps[0] = _inverse_map([*plain, coupled[0]])
            couplings = [_Coupling.of(step.affine, dtype) for step in coupled if step.affine is not None]
            self.levels.append((couplings, maps))

    def __call__(self, z: Tensor, conditions: tuple[Tensor, ...]) -> Tensor:
        """Decode ``z``, ``(S·N, 192, H/8, W/8)``, given conditions of N pictures."""
        z = z.float().contiguous(memory_format=torch.channels_last)
        for (couplings, maps), condition in zip(reversed(self.levels), reversed(conditions), strict=True):
            condition = condition.to(self.dtype).contiguous(memory_format=torch.channels_last)
            for coupling, (matrix, offset) in zip(reversed(couplings), reversed(maps), strict=True):
                z = F.conv2d(coupling.inverse(z, condition), matrix, offset)
            z = F.pixel_shuffle(z, 2).contiguous(memory_format=torch.channels_last)
        return z


@dataclass(slots=True)
class _Coupling:
    """Inverse of a conditional affine coupling. Kernels of three layers: features, and the affine part."""

    split: int
    features: tuple[Kernel, Kernel, Kernel]
    affine: tuple[Kernel, Kernel, Kernel]
    affine_z: Kernel

    @staticmethod
    def of(coupling: ConditionalAffineCoupling, dtype: torch.dtype) -> _Coupling:
        split = coupling.split
        first, second, last = _coupling_kernels(coupling.fAffine, dtype)
        weight, _ = _fold_actnorm(coupling.fAffine[0])
        return _Coupling(
            split=split,
            features=_coupling_kernels(coupling.fFeatures, dtype),
            affine=(Kernel.make(weight[:, split:], first.bias, dtype), second, last),
            affine_z=Kernel.make(weight[:, :split], None, dtype),
        )

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        z1, z2 = z[:, : self.split], z[:, self.split :]
        shift, scale = _shift_scale(self._affine(z1, condition))
        z = torch.cat([z1, torch.addcdiv(-shift, z2, scale)], 1)
        shift, scale = _shift_scale(self._features(condition))
        copies = z.shape[0] // condition.shape[0]
        if copies == 1:
            return torch.addcdiv(-shift, z, scale)
        return torch.addcdiv(-shift.repeat(copies, 1, 1, 1), z, scale.repeat(copies, 1, 1, 1))

    def _features(self, condition: Tensor) -> Tensor:
        first, second, last = self.features
        if not in_strips(condition):
            return last(F.relu_(second(F.relu_(first(condition)))))

        def strip(picture: int, start: int, stop: int) -> Tensor:
            rows = rows_with_halo(condition[picture : picture + 1], start, stop, 1)
            return F.relu_(second(F.relu_(first(rows, padding=(0, 1)))))

        return _convolved(last, _hidden(condition, condition.shape[0], second, strip))

    def _affine(self, z1: Tensor, condition: Tensor) -> Tensor:
        first, second, last = self.affine
        z1 = z1.to(condition.dtype).contiguous(memory_format=torch.channels_last)
        pictures = condition.shape[0]
        copies = z1.shape[0] // pictures
        if not in_strips(condition):
            hidden = self.affine_z(z1)
            hidden.unflatten(0, (copies, pictures)).add_(first(condition))  # one of the condition for all samples
            return last(F.relu_(second(F.relu_(hidden))))

        def strip(picture: int, start: int, stop: int) -> Tensor:
            shared = first(rows_with_halo(condition[picture : picture + 1], start, stop, 1), padding=(0, 1))
            strips = []
            for sample in range(copies):
                own = rows_with_halo(z1[sample * pictures + picture][None], start, stop, 1)
                strips.append(F.relu_(second(F.relu_(self.affine_z(own, padding=(0, 1)).add_(shared)))))
            return torch.cat(strips) if copies > 1 else strips[0]

        return _convolved(last, _hidden(condition, z1.shape[0], second, strip))


def _hidden(condition: Tensor, batch: int, second: Kernel, strip: Callable[[int, int, int], Tensor]) -> Tensor:
    """The hidden features of a coupling network, in strips of the condition's rows."""
    pictures, channels, height, width = condition.shape
    rows = strip_rows(condition, width * channels * condition.dtype.itemsize, overlap=2)
    out = empty((batch, second.weight.shape[0], height, width), condition)
    for picture in range(pictures):

        def band(first: int, last: int, picture: int = picture) -> None:
            for start in range(first, last, rows):
                stop = min(last, start + rows)
                out[picture::pictures, :, start:stop] = strip(picture, start, stop)

        in_bands(height, band, device=condition.device)
    return out


def _convolved(kernel: Kernel, x: Tensor) -> Tensor:
    """A 3x3 convolution in bands of rows, for CPUs."""
    n, _, height, width = x.shape
    out = empty((n, kernel.weight.shape[0], height, width), x)

    def band(start: int, stop: int) -> None:
        out[:, :, start:stop] = kernel(rows_with_halo(x, start, stop, 1), padding=(0, 1))

    in_bands(height, band, device=x.device)
    return out


def _shift_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale from the folded last layer, whose channels are all shifts, then all raw scales plus 2."""
    shift, raw = raw.float().chunk(2, 1)
    return shift, raw.sigmoid().add_(COUPLING_EPS)


def _inverse_map(steps: list[FlowStep]) -> tuple[Tensor, Tensor]:
    """What undoes ActNorm and 1x1 convolution of ``steps`` (encoding order): kernel and bias of one 1x1 convolution."""
    size = steps[0].invconv.weight.shape[0]
    device = steps[0].invconv.weight.device
    matrix = torch.eye(size, dtype=torch.float64, device=device)
    offset = torch.zeros(size, dtype=torch.float64, device=device)
    for step in reversed(steps):
        step.invconv.inverse_weight()  # refuses a singular matrix
        scale = torch.exp(-step.actnorm.logs.double().flatten())
        undo = scale[:, None] * torch.linalg.inv(step.invconv.weight.double())
        matrix, offset = undo @ matrix, undo @ offset - step.actnorm.bias.double().flatten()
    return matrix.float()[:, :, None, None], offset.float()


def _coupling_kernels(network: nn.Sequential, dtype: torch.dtype) -> tuple[Kernel, Kernel, Kernel]:
    first, second, last = network[0], network[2], network[4]
    assert isinstance(last, ZeroConv2d)
    assert last.bias is not None
    scale = torch.exp(3.0 * last.logs.flatten())
    weight, bias = last.weight * scale[:, None, None, None], last.bias * scale
    bias = torch.cat([bias[0::2], bias[1::2] + 2.0])
    weight = torch.cat([weight[0::2], weight[1::2]])
    return (
        Kernel.make(*_fold_actnorm(first), dtype),
        Kernel.make(*_fold_actnorm(second), dtype),
        Kernel.make(weight, bias, dtype),
    )


def _fold_actnorm(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the ActNorm behind it as one convolution."""
    assert isinstance(conv, ActNormConv2d)
    scale = conv.actnorm.logs.flatten().exp()
    return conv.weight * scale[:, None, None, None], conv.actnorm.bias.flatten() * scale


def _dense_kernels(block: nn.Module, dtype: torch.dtype) -> list[list[Kernel]]:
    assert isinstance(block, RRDB)
    return [[Kernel.of(conv, dtype) for conv in part.convolutions()] for part in (block.RDB1, block.RDB2, block.RDB3)]
