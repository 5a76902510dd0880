"""Layers of a conditional normalizing flow over images, shared by LLFlow and GLARE.

A flow is a chain of invertible steps. ``forward`` (encoding) maps an image towards the latent z, ``inverse``
(decoding) maps it back; both add their log-determinants to a running ``(N,)`` tensor, or skip them where it is None.
Glow (Kingma & Dhariwal, arXiv:1807.03039) introduced activation norms and invertible 1×1 convolutions, SRFlow
(Lugmayr et al., arXiv:2006.14200) the couplings that depend on features of another image; LLFlow (Wang et al.,
AAAI 2022) and GLARE (Zhou et al., ECCV 2024) use those.

Everything here computes in the precision of its input, except what must not: the inverse and the determinant of the
1×1 convolutions are taken in float64, log-determinants are summed in float32 or better.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlight.errors import ModelError

COUPLING_EPS: Final = 1e-4
"""Added to every scale of a coupling, so that its inverse is bounded."""


class ActNorm(nn.Module):
    """A learned shift and scale per channel: ``y = (x + bias)·exp(logs)`` (Glow, section 3.1).

    On the first encoding in training mode the parameters are set so that its output has mean 0 and variance 1 per
    channel, if every bias is exactly 0; a loaded bias is never zero everywhere.

    Args:
        channels: Number of channels C; the parameters are ``(1, C, 1, 1)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self._ready = False

    def forward(self, x: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ``x``, ``(N, C, H, W)``."""
        if self.training and not self._ready:
            self.initialise(x)
        return (x + self.bias) * self.logs.exp(), self._add(logdet, x, 1)

    def inverse(self, y: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Decode ``y``; never initialises."""
        return y * (-self.logs).exp() - self.bias, self._add(logdet, y, -1)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Take bias and scale from the statistics of ``x``, unless they are set already."""
        if bool((self.bias == 0).all()):
            bias = -x.float().mean((0, 2, 3), keepdim=True)
            variance = (x.float() + bias).square().mean((0, 2, 3), keepdim=True)
            self.bias.copy_(bias)
            self.logs.copy_(-(variance.sqrt() + 1e-6).log())
        self._ready = True

    def _add(self, logdet: Tensor | None, x: Tensor, sign: int) -> Tensor | None:
        if logdet is None:
            return None
        return logdet + (sign * x.shape[-2] * x.shape[-1]) * _wide(self.logs).sum()


class InvertibleConv1x1(nn.Module):
    """A learned square mixing of the channels, ``y = W·x`` (Glow, section 3.2; dense, no LU factors).

    Args:
        channels: Number of channels C; ``weight`` is ``(C, C)`` and starts as a random orthogonal matrix.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self._cache: tuple[tuple[object, ...], Tensor, Tensor] | None = None
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.copy_(torch.linalg.qr(torch.randn(channels, channels))[0])

    def forward(self, x: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ``x``, ``(N, C, H, W)``."""
        return _mix(x, self.weight), self._add(logdet, x, 1)

    def inverse(self, y: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Decode ``y``.

        Raises:
            ModelError: The matrix is singular.
        """
        return _mix(y, self.inverse_weight().to(y.dtype)), self._add(logdet, y, -1)

    def inverse_weight(self) -> Tensor:
        """``W⁻¹``, computed in float64 and rounded to the type of ``W`` (at least float32); cached without gradients.

        Raises:
            ModelError: The matrix is singular.
        """
        return self._solved()[0]

    def log_determinant(self) -> Tensor:
        """``ln|det W|``, a scalar, computed in float64; cached without gradients."""
        return self._solved()[1]

    def _solved(self) -> tuple[Tensor, Tensor]:
        weight = self.weight
        track = torch.is_grad_enabled() and weight.requires_grad
        key = (weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.dtype, weight.device)
        if not track and self._cache is not None and self._cache[0] == key:
            return self._cache[1:]
        inverse, info = torch.linalg.inv_ex(weight.double())
        log_determinant = torch.linalg.slogdet(weight.double())[1]
        if not track:  # looking at the value waits for the device, once per set of weights
            if int(info) != 0 or not bool(torch.isfinite(log_determinant)):
                raise ModelError(
                    f"an invertible 1x1 convolution over {weight.shape[0]} channels holds a singular matrix; "
                    "the weights are damaged or the training diverged"
                )
            inverse = inverse.to(torch.promote_types(weight.dtype, torch.float32))
            self._cache = (key, inverse, log_determinant)
            return inverse, log_determinant
        return inverse.to(torch.promote_types(weight.dtype, torch.float32)), log_determinant

    def _add(self, logdet: Tensor | None, x: Tensor, sign: int) -> Tensor | None:
        if logdet is None:
            return None
        return logdet + (sign * x.shape[-2] * x.shape[-1]) * self.log_determinant().to(logdet.dtype)


class ActNormConv2d(nn.Conv2d):
    """A convolution without bias followed by its own :class:`ActNorm`, whose log-determinant does not count.

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: 1 or 3; zero padding keeps the size.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.normal_(self.weight, 0.0, 0.05)
        self.actnorm = ActNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, H, W)`` → ``(N, out, H, W)``."""
        return self.actnorm(super().forward(x))[0]


class ZeroConv2d(nn.Conv2d):
    """A 3×3 convolution that starts at zero and learns its own scale ``exp(3·logs)`` per channel (Glow, section 3.3).

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.logs = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, H, W)`` → ``(N, out, H, W)``."""
        return super().forward(x) * (3.0 * self.logs).exp()


def coupling_network(in_channels: int, out_channels: int, hidden: int) -> nn.Sequential:
    """The small network inside a coupling: 3×3, 1×1 and zero-initialised 3×3 convolution."""
    return nn.Sequential(
        ActNormConv2d(in_channels, hidden, 3),
        nn.ReLU(),
        ActNormConv2d(hidden, hidden, 1),
        nn.ReLU(),
        ZeroConv2d(hidden, out_channels),
    )


class ConditionalAffineCoupling(nn.Module):
    """Two affine maps whose parameters depend on conditioning features (SRFlow, section 3.3).

    First the *affine injector* changes all channels by what the features say; then the channels are split into
    ``z1`` (the first ``C // 2``) and ``z2``, and ``z2`` is changed by what ``z1`` and the features say.

    Args:
        channels: Channels C of z.
        condition_channels: Channels of the conditioning features.
        hidden: Width of the two small networks.
    """

    def __init__(self, channels: int, condition_channels: int, hidden: int) -> None:
        super().__init__()
        self.split = channels // 2
        rest = channels - self.split
        self.fFeatures = coupling_network(condition_channels, 2 * channels, hidden)
        self.fAffine = coupling_network(self.split + condition_channels, 2 * rest, hidden)

    def forward(self, z: Tensor, condition: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ``z``, ``(N, C, H, W)``, given ``condition``, ``(N, F, H, W)``."""
        shift, scale = shift_and_scale(self.fFeatures(condition))
        z = (z + shift) * scale
        logdet = _add_scales(logdet, scale, 1)
        z1, z2 = z[:, : self.split], z[:, self.split :]
        shift, scale = shift_and_scale(self.fAffine(torch.cat([z1, condition], 1)))
        return torch.cat([z1, (z2 + shift) * scale], 1), _add_scales(logdet, scale, 1)

    def inverse(self, z: Tensor, condition: Tensor, logdet: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Decode ``z``."""
        z1, z2 = z[:, : self.split], z[:, self.split :]
        shift, scale = shift_and_scale(self.fAffine(torch.cat([z1, condition], 1)))
        z = torch.cat([z1, z2 / scale - shift], 1)
        logdet = _add_scales(logdet, scale, -1)
        shift, scale = shift_and_scale(self.fFeatures(condition))
        return z / scale - shift, _add_scales(logdet, scale, -1)


class FlowStep(nn.Module):
    """ActNorm, invertible 1×1 convolution and, unless ``condition_channels`` is None, a conditional coupling.

    Args:
        channels: Channels C of z.
        condition_channels: Channels of the conditioning features; None for a *transition step* without a coupling.
        hidden: Width of the coupling's networks.
    """

    def __init__(self, channels: int, condition_channels: int | None = None, hidden: int = 64) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv1x1(channels)
        self.affine = None
        if condition_channels is not None:
            self.affine = ConditionalAffineCoupling(channels, condition_channels, hidden)

    def forward(
        self, z: Tensor, condition: Tensor | None = None, logdet: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode ``z``, ``(N, C, H, W)``; steps without a coupling ignore ``condition``."""
        z, logdet = self.actnorm(z, logdet)
        z, logdet = self.invconv(z, logdet)
        return (z, logdet) if self.affine is None else self.affine(z, condition, logdet)

    def inverse(
        self, z: Tensor, condition: Tensor | None = None, logdet: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Decode ``z``."""
        if self.affine is not None:
            assert condition is not None
            z, logdet = self.affine.inverse(z, condition, logdet)
        z, logdet = self.invconv.inverse(z, logdet)
        return self.actnorm.inverse(z, logdet)


class Squeeze(nn.Module):
    """Space to depth by 2, output channel ``4·c + 2·dy + dx``; volume preserving, no parameters."""

    def forward(
        self, z: Tensor, condition: Tensor | None = None, logdet: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """``(N, C, H, W)`` → ``(N, 4·C, H/2, W/2)``."""
        return F.pixel_unshuffle(z, 2), logdet

    def inverse(
        self, z: Tensor, condition: Tensor | None = None, logdet: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """``(N, 4·C, H/2, W/2)`` → ``(N, C, H, W)``."""
        return F.pixel_shuffle(z, 2), logdet


def shift_and_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Shift (even channels) and scale ``sigmoid(odd + 2) + eps`` that a coupling network asks for."""
    return raw[:, 0::2], torch.sigmoid(raw[:, 1::2] + 2.0) + COUPLING_EPS


def gaussian_log_likelihood(z: Tensor, mean: Tensor) -> Tensor:
    """``ln N(z; mean, 1)`` summed over everything but the batch: ``(N,)``."""
    difference = _wide(z) - _wide(mean)
    return (-0.5 * (difference.square() + _LOG_TWO_PI)).flatten(1).sum(1)


_LOG_TWO_PI: Final = 1.8378770664093453


def _mix(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight[:, :, None, None])


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _add_scales(logdet: Tensor | None, scale: Tensor, sign: int) -> Tensor | None:
    return None if logdet is None else logdet + sign * _wide(scale).log().flatten(1).sum(1)
