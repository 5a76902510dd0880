"""How LLDiffusion's sampler walks, and how it predicts noise for a whole frame or in overlapping tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models.lldiffusion.diffusion import time_steps
from streamlight.models.lldiffusion.preprocess import MINIMUM, MULTIPLE, Padding
from streamlight.models.lldiffusion.unet import UNet

Features = list[Tensor]

_FEATURE_GRID: Final = 16
"""The coarsest feature is 1/16 of the frame: tiles cut from a frame's features lie on this grid."""

_CACHE_BYTES: Final = 2**30
"""Features of tiles kept from step to step; the rest is computed anew at each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Settings of the sampler.

    Attributes:
        steps: Number of network evaluations; see :func:`~streamlight.models.lldiffusion.diffusion.time_steps`.
        eta: Share of fresh noise at each step, 0 (deterministic) to 1.
        t_start: Time step to start at; None for the published list. Together with ``x_init`` a warm start (SDEdit,
            arXiv:2108.01073).
        warm_steps: Network evaluations for a frame that starts from the result of the frame before; 0 to
            start every frame anew.
        warm_start: Time step that such a start is noised up to.
        tile: Side of square tiles, a multiple of 32; None for the frame in one piece. The published evaluation uses
            128.
        stride: Distance of tiles; None for half a tile. The published evaluation uses 16.
        blend: How overlapping predictions are averaged: ``"smooth"``, a window that falls off towards a tile's
            border, or ``"box"``, all alike, as published.
        statistics: Where the encoder sees the picture: each ``"tile"`` for itself, as published, or the ``"frame"``
            at once, which is cheaper and gives all tiles the same idea of the degradation.
        tile_batch: Tiles per network call.
        seed: Seed of the fresh noise where the caller gives none; every call then draws the same, so that frames of a
            video do not flicker.
        padding: Up to which size a frame is grown inside; ``"official"`` repeats the published evaluation.

    Raises:
        ConfigError: A value is out of range.
    """

    steps: int = 25
    eta: float = 0.0
    t_start: int | None = None
    warm_steps: int = 4
    warm_start: int = 300
    tile: int | None = None
    stride: int | None = None
    blend: Literal["smooth", "box"] = "smooth"
    statistics: Literal["tile", "frame"] = "tile"
    tile_batch: int = 8
    seed: int = 0
    padding: Padding = "least"

    def __post_init__(self) -> None:
        time_steps(self.steps, t_start=self.t_start)
        if self.warm_steps:
            time_steps(self.warm_steps, t_start=self.warm_start)
        if not 0.0 <= self.eta <= 1.0:
            raise ConfigError(f"eta must be between 0 and 1, got {self.eta}")
        for name, choices in (
            ("blend", ("smooth", "box")),
            ("statistics", ("tile", "frame")),
            ("padding", ("least", "official")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be {' or '.join(map(repr, choices))}, got {getattr(self, name)!r}")
        if self.tile_batch < 1:
            raise ConfigError(f"tile_batch must be positive, got {self.tile_batch}")
        if self.tile is None:
            if self.stride is not None:
                raise ConfigError(f"stride {self.stride} needs a tile size: set tile too")
            return
        if self.tile < MINIMUM or self.tile % MULTIPLE:
            raise ConfigError(f"tile must be a multiple of {MULTIPLE} and at least {MINIMUM}, got {self.tile}")
        if not 1 <= self.distance <= self.tile:
            raise ConfigError(f"stride must be between 1 and the tile size {self.tile}, got {self.stride}")
        if self.statistics == "frame" and self.distance % _FEATURE_GRID:
            raise ConfigError(
                f"stride must be a multiple of {_FEATURE_GRID} with statistics='frame', got {self.stride}"
            )

    @property
    def distance(self) -> int:
        """Distance of tiles in pixels."""
        return self.stride if self.stride is not None else (self.tile or 0) // 2

    @property
    def whole_encoder(self) -> bool:
        """Whether the encoder sees the frame in one piece."""
        return self.tile is None or self.statistics == "frame"


def tile_corners(height: int, width: int, *, tile: int, stride: int) -> list[tuple[int, int]]:
    """Top left corners (y, x) of tiles that cover a frame, row by row.

    They lie ``stride`` apart; a last one in each direction is moved in to end at the border, so that no pixel is left
    out.

    Args:
        height: Of the frame, at least ``tile``.
        width: Of the frame, at least ``tile``.
        tile: Side of a tile.
        stride: 1 to ``tile``.
    """

    def starts(size: int) -> list[int]:
        regular = list(range(0, size - tile + 1, stride))
        return regular if regular[-1] == size - tile else [*regular, size - tile]

    return [(y, x) for y in starts(height) for x in starts(width)]


def blend_window(tile: int, blend: Literal["smooth", "box"], *, device: str | torch.device = "cpu") -> Tensor:
    """Weights of a tile's predictions, ``(tile, tile)`` float32, all above 0.

    ``"smooth"`` is a squared sine in both directions: neighbours at half a tile's distance add up to a constant.
    """
    if blend == "box":
        return torch.ones(tile, tile, device=device)
    edge = torch.sin((torch.arange(tile, device=device) + 0.5) * (math.pi / tile)) ** 2
    return edge[:, None] * edge[None]


class WholeNoise:
    """Predicts the noise of frames in one piece.

    Args:
        unet: The DDDM.
        static: y and C(y), ``(N, 6, H, W)``.
        features: Degradation features of y.
    """

    def __init__(self, unet: UNet, static: Tensor, features: Sequence[Tensor]) -> None:
        self._unet = unet
        dtype = unet.working_dtype
        self._static = static.contiguous(memory_format=torch.channels_last)
        self._features = [feature.to(dtype=dtype, memory_format=torch.channels_last) for feature in features]

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Predicted noise of the state ``x``, ``(N, 3, H, W)``, at time ``t``."""
        time = torch.full((1,), t, device=x.device)
        x_t = x.contiguous(memory_format=torch.channels_last)
        return self._unet(torch.cat([x_t, self._static], dim=1), self._features, time)


class TiledNoise:
    """Predicts the noise of frames in overlapping tiles and averages it (paper, section 4; arXiv:2207.14626).

    The average is taken at every step, of the noise, so that all tiles share one trajectory and show no seams.

    Args:
        unet: The DDDM.
        static: y and C(y), ``(N, 6, H, W)``, at least a tile large.
        sampling: Settings with a tile size.
        encode: Dark pictures → degradation features; used where ``features`` is empty.
        features: Degradation features of the whole frame; empty to compute them tile by tile.
    """

    def __init__(
        self,
        unet: UNet,
        static: Tensor,
        *,
        sampling: Sampling,
        encode: Callable[[Tensor], Features],
        features: Sequence[Tensor],
    ) -> None:
        assert sampling.tile is not None
        self._unet, self._static, self._encode, self._features = unet, static, encode, features
        self._dtype = unet.working_dtype
        self._tile = tile = sampling.tile
        corners = tile_corners(*static.shape[-2:], tile=tile, stride=sampling.distance)
        size = sampling.tile_batch
        self._batches = [corners[start : start + size] for start in range(0, len(corners), size)]
        self._window = blend_window(tile, sampling.blend, device=static.device)
        self._coverage = torch.zeros(static.shape[-2:], device=static.device)
        for corner in corners:
            self._cut(self._coverage, corner).add_(self._window)
        self._cache: dict[int, Features] = {}
        self._cached = 0

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Predicted noise of the state ``x``, ``(N, 3, H, W)``, at time ``t``."""
        time = torch.full((1,), t, device=x.device)
        total = torch.zeros_like(x)
        for index, corners in enumerate(self._batches):
            static = self._stack(self._static, corners)
            features = self._tile_features(index, corners, static[:, :3])
            state = torch.cat([self._stack(x, corners), static], dim=1)
            noise = self._unet(state, features, time)
            for corner, part in zip(corners, noise.split(x.shape[0]), strict=True):
                self._cut(total, corner).addcmul_(part, self._window.to(x.dtype))
        return total / self._coverage.to(x.dtype)

    def _tile_features(self, index: int, corners: list[tuple[int, int]], y: Tensor) -> Features:
        if self._features:
            height = self._static.shape[-2]
            return [self._stack(feature, corners, shrink=height // feature.shape[-2]) for feature in self._features]
        if index in self._cache:
            return self._cache[index]
        features = [feature.to(self._dtype) for feature in self._encode(y)]
        size = sum(feature.nbytes for feature in features)
        if self._cached + size <= _CACHE_BYTES:
            self._cache[index], self._cached = features, self._cached + size
        return features

    def _cut(self, image: Tensor, corner: tuple[int, int], *, shrink: int = 1) -> Tensor:
        (y, x), side = (value // shrink for value in corner), self._tile // shrink
        return image[..., y : y + side, x : x + side]

    def _stack(self, image: Tensor, corners: list[tuple[int, int]], *, shrink: int = 1) -> Tensor:
        """Tiles of all frames, tile by tile: ``(tiles · N, C, tile, tile)``."""
        return torch.cat([self._cut(image, corner, shrink=shrink) for corner in corners])
