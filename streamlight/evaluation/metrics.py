"""How near a picture is to its reference: PSNR, SSIM and LPIPS, and the brightness alignment called GT-mean.

Published figures of low-light methods follow several definitions under the same names. Here there is one of each:

* Pictures are RGB, encoded values as they are displayed, ``(N, 3, H, W)`` in [0, 1]; the data range is 1. A file of
  8 bits is its codes over 255.
* PSNR is ``10 · log10(1 / MSE)``, the mean square error taken over all pixels and channels together.
* SSIM follows Wang et al., IEEE TIP 13(4), 2004: Gaussian window of 11x11 with σ = 1.5, K1 = 0.01, K2 = 0.03, variances
  weighted by the window (not the sample covariance). Each channel by itself, mean over the three. Border: only windows
  that lie wholly inside the picture count, so 5 pixels on every side are no centres; nothing is padded and nothing
  is shrunk beforehand. It is what scikit-image computes with ``gaussian_weights=True, sigma=1.5,
  use_sample_covariance=False, data_range=1``.
* LPIPS (Zhang et al., CVPR 2018) is version 0.1 on AlexNet, as the package ``lpips`` computes it.
* GT-mean multiplies the picture by one number, ``grey mean of the reference / grey mean of the picture``, and clips to
  [0, 1]; grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of the encoded values, in floating point, without rounding
  to 8 bits afterwards. That is the usual definition since KinD (one gain for the three channels); scripts in use differ
  in the weights, in rounding, or take one gain per channel, which also repairs colour casts. It reads the reference:
  it says how good a picture would be if its brightness were right, and is never what a user sees.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from streamlight.errors import ConfigError

WINDOW: Final = 11
"""Side of the SSIM window; no picture may be smaller."""

LPIPS_SIDE: Final = 31
"""Smallest side that AlexNet's pooling leaves anything of."""

_SIGMA: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2
GREY: Final = (0.299, 0.587, 0.114)
"""BT.601 weights of R, G, B."""

_BAND: Final = 1 << 12
"""Windows that are filtered at a time: eleven passes over so few samples stay in the cache and on one core."""

_BACKBONE: Final = "alexnet-owt-7be5be79.pth"

Metric = Callable[[Tensor, Tensor], Tensor]


def psnr(result: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio.

    Args:
        result: ``(N, 3, H, W)`` float, [0, 1].
        reference: The same shape.

    Returns:
        ``(N,)`` float64, in dB; infinite for equal pictures.

    Raises:
        ValueError: The shapes differ or are no RGB pictures.
    """
    _check(result, reference)
    error = [(a.double() - b.double()).square().mean() for a, b in _planes(result, reference)]
    return -10.0 * torch.stack(error).reshape(-1, 3).mean(1).log10()


def ssim(result: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity, as the module says.

    Args:
        result: ``(N, 3, H, W)`` float, [0, 1]; height and width at least 11.
        reference: The same shape.

    Returns:
        ``(N,)`` float64, at most 1.

    Raises:
        ValueError: The shapes differ, are no RGB pictures, or are smaller than the window.
    """
    _check(result, reference, smallest=WINDOW)
    means = [_ssim_plane(x.double(), y.double()) for x, y in _planes(result, reference)]
    return torch.stack(means).reshape(-1, 3).mean(1)


def ssim_plane(result: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of one plane, for example luma; everything else is as in :func:`ssim`.

    Args:
        result: ``(H, W)`` float, [0, 1]; height and width at least 11.
        reference: The same shape.

    Returns:
        0-dim float64, at most 1.

    Raises:
        ValueError: The shapes differ, or a side is smaller than the window.
    """
    _check_planes(result, reference)
    return _ssim_plane(result.double(), reference.double())


def ssim_map(result: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity at every window of one plane; its mean is :func:`ssim_plane`.

    Args:
        result: ``(H, W)`` float, [0, 1]; height and width at least 11.
        reference: The same shape.

    Returns:
        ``(H - 10, W - 10)`` float64: the window centred on row 5 and column 5 comes first.

    Raises:
        ValueError: The shapes differ, or a side is smaller than the window.
    """
    _check_planes(result, reference)
    return _ssim_map(result.double(), reference.double())


def gt_mean_gain(result: Tensor, reference: Tensor) -> Tensor:
    """The number that GT-mean multiplies by.

    Args:
        result: ``(N, 3, H, W)`` float, [0, 1].
        reference: The same shape.

    Returns:
        ``(N,)`` float64: grey mean of ``reference`` over that of ``result``. 1 where ``result`` is black: no factor
        makes it brighter.

    Raises:
        ValueError: The shapes differ or are no RGB pictures.
    """
    _check(result, reference)
    mean, target = _grey_mean(result), _grey_mean(reference)
    return torch.where(mean > 0.0, target / mean, torch.ones_like(mean))


def gt_mean(result: Tensor, reference: Tensor) -> Tensor:
    """The picture at the brightness of its reference: ``result`` times :func:`gt_mean_gain`, clipped to [0, 1].

    Args:
        result: ``(N, 3, H, W)`` float, [0, 1].
        reference: The same shape.

    Returns:
        ``(N, 3, H, W)``, of the type of ``result``.

    Raises:
        ValueError: The shapes differ or are no RGB pictures.
    """
    gain = gt_mean_gain(result, reference).to(result.dtype)
    return (result * gain[:, None, None, None]).clamp_(0.0, 1.0)


def open_lpips() -> Metric:
    """LPIPS as a function of two ``(N, 3, H, W)`` pictures in [0, 1], at least 31 pixels high and wide: ``(N,)``.

    Nothing is ever downloaded: the package and the weights of its backbone must be there.

    Raises:
        ConfigError: The package or the weights are missing; the message says how to get them.
    """
    missing = [name for name in ("lpips", "torchvision") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"LPIPS needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'streamlight[lpips]'"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE
    if not file.is_file():
        raise ConfigError(
            f"LPIPS needs AlexNet's ImageNet weights: {file} is missing, and nothing is downloaded here. "
            "Fetch it once with: python -c \"import torchvision; torchvision.models.alexnet(weights='IMAGENET1K_V1')\""
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package asks torchvision for the backbone in an outdated way
            network = import_module("lpips").LPIPS(net="alex", version="0.1", verbose=False).eval()
    except (ImportError, RuntimeError) as error:  # what torchvision raises when it was built for another torch
        raise ConfigError(
            f"LPIPS cannot be loaded ({error}); install the torchvision that belongs to torch {torch.__version__}"
        ) from error

    @torch.inference_mode()
    def metric(result: Tensor, reference: Tensor) -> Tensor:
        _check(result, reference, smallest=LPIPS_SIDE)
        value = network(result.float() * 2.0 - 1.0, reference.float() * 2.0 - 1.0)
        return value.reshape(-1).double()

    return metric


def _check(result: Tensor, reference: Tensor, *, smallest: int = 1) -> None:
    if result.shape != reference.shape or result.ndim != 4 or result.shape[1] != 3:
        raise ValueError(
            f"two pictures of one shape (N, 3, H, W) are needed, got {tuple(result.shape)} and {tuple(reference.shape)}"
        )
    if min(result.shape[2:]) < smallest:
        raise ValueError(f"pictures must be at least {smallest} pixels high and wide, got {tuple(result.shape[2:])}")


def _check_planes(result: Tensor, reference: Tensor) -> None:
    if result.shape != reference.shape or result.ndim != 2 or min(result.shape) < WINDOW:
        raise ValueError(
            f"two planes of one shape (H, W), at least {WINDOW}x{WINDOW}, are needed, got {tuple(result.shape)} and "
            f"{tuple(reference.shape)}"
        )


def _grey_mean(picture: Tensor) -> Tensor:
    weights = torch.tensor(GREY, dtype=torch.float64, device=picture.device)
    return picture.mean(dim=(2, 3), dtype=torch.float64) @ weights


def _planes(result: Tensor, reference: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The channels one by one, so that large photographs do not lie in memory several times in double precision."""
    return zip(result.flatten(0, 1), reference.flatten(0, 1), strict=True)


def _ssim_plane(x: Tensor, y: Tensor) -> Tensor:
    height, width = x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1
    rows = max(8, _BAND // width)
    bands = (slice(top, top + rows + WINDOW - 1) for top in range(0, height, rows))
    return torch.stack([_ssim_map(x[band], y[band]).sum() for band in bands]).sum() / (height * width)


def _ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """SSIM at every window inside one plane, ``(H, W)`` float64 → ``(H - 10, W - 10)``."""
    moments = _filtered(torch.stack([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, xx, yy, xy = moments
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    above = (2.0 * product + _C1) * (2.0 * (xy - product) + _C2)
    below = (square_x + square_y + _C1) * ((xx - square_x) + (yy - square_y) + _C2)
    return above / below


def _filtered(planes: Tensor) -> Tensor:
    """Gaussian window along both axes, without padding."""
    half = WINDOW // 2
    weights = [math.exp(-0.5 * (offset / _SIGMA) ** 2) for offset in range(-half, half + 1)]
    total = sum(weights)
    for axis in (1, 2):
        length = planes.shape[axis] - WINDOW + 1
        out = torch.zeros_like(planes.narrow(axis, 0, length))
        for offset, weight in enumerate(weights):
            out.add_(planes.narrow(axis, offset, length), alpha=weight / total)
        planes = out
    return planes
