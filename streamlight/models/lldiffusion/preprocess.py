"""From a dark picture to what the networks read, and back: range, colour map, padding, 8-bit rounding."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor

from streamlight.models.nn.padding import reflect_to

MULTIPLE: Final = 32
"""Height and width of what a network reads are multiples of this: five halvings."""

MINIMUM: Final = 64
"""Smallest height and width of what the encoder reads: its coarsest map is reflected at the border, 2x2 at least."""

Padding = Literal["least", "official"]
"""``"least"``: up to the next multiple of 32. ``"official"``: as the published evaluation, often a whole 32 more."""


def color_map(y: Tensor) -> Tensor:
    """Colour map C(y) (paper, section 3.3): the share of each channel in the pixel's sum.

    ``c = u / (Σ_RGB u + 1e-4)`` with ``u = (y + 1) / 2``, clipped to [0, 1], then ``C = 2c - 1``. Black gives -1.

    Args:
        y: ``(N, 3, H, W)`` in [-1, 1], RGB.

    Returns:
        The same shape, in [-1, 1].
    """
    u = (y + 1) / 2
    return 2 * (u / (u.sum(dim=1, keepdim=True) + 1e-4)).clamp(0, 1) - 1


def padded_sizes(height: int, width: int, *, padding: Padding, tile: int | None, whole: bool) -> list[tuple[int, int]]:
    """Sizes that a frame is grown to, one after the other; the last is what the networks see.

    Args:
        height: Of the frame.
        width: Of the frame.
        padding: How generously.
        tile: Side of the tiles, None without tiles.
        whole: Whether the encoder sees the frame in one piece (its size must then be a multiple of 32).
    """
    if padding == "official":
        first = (_up(height, 16), _up(width, 16))
        if tile is not None and not whole:
            return [first, (max(tile, first[0]), max(tile, first[1]))]
        # One more 32 even where the side is a multiple already: so were the published figures made.
        second = (first[0] // MULTIPLE + 1) * MULTIPLE, (first[1] // MULTIPLE + 1) * MULTIPLE
        floor = max(MINIMUM, tile or 0)
        return [first, (max(floor, second[0]), max(floor, second[1]))]
    if tile is not None and not whole:
        return [(max(tile, height), max(tile, width))]
    floor = max(MINIMUM, tile or 0)
    return [(max(floor, _up(height, MULTIPLE)), max(floor, _up(width, MULTIPLE)))]


def pad(image: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Grow ``(N, C, H, W)`` to the right and below, by reflection, to each of ``sizes`` in turn."""
    for height, width in sizes:
        image = reflect_to(image, height, width)
    return image


def quantize(image: Tensor) -> Tensor:
    """[0, 1] → 8 bit as the published evaluation does: ``trunc(x · 255.999)``, not rounded to the nearest code."""
    return (image * 255.999).byte()


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
