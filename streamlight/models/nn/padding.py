"""Growing a picture to a size that a network can take."""

from __future__ import annotations

import torch
from torch import Tensor


def reflect_to(image: Tensor, height: int, width: int) -> Tensor:
    """Grow a picture to the right and below by reflection about its last column and row.

    Equals :func:`torch.nn.functional.pad` with ``mode="reflect"`` where that is defined, and goes on reflecting to
    and fro where the picture is smaller than the border; a side of one pixel is repeated.

    Args:
        image: ``(…, H, W)``.
        height: At least H.
        width: At least W.

    Returns:
        ``(…, height, width)``; its top left corner is ``image``.
    """
    for axis, size in ((-2, height), (-1, width)):
        have = image.shape[axis]
        if size != have:
            image = image.index_select(axis, _reflected(have, size, image.device))
    return image


def _reflected(have: int, want: int, device: torch.device) -> Tensor:
    index = torch.arange(want, device=device)
    if have == 1:
        return torch.zeros_like(index)
    index = index % (2 * have - 2)
    return torch.minimum(index, 2 * have - 2 - index)
