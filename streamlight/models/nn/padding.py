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
    return mirror(image, bottom=height - image.shape[-2], right=width - image.shape[-1])


def mirror(
    image: Tensor, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0, repeat_edge: bool = False
) -> Tensor:
    """Grow a picture on any side by reflection, to and fro where the picture is smaller than the border.

    Args:
        image: ``(…, H, W)``.
        top: Rows added above; likewise ``bottom``, ``left`` and ``right``.
        bottom: Rows added below.
        left: Columns added.
        right: Columns added.
        repeat_edge: Reflect about the border of the picture, so that the edge pixel appears twice (numpy's
            ``symmetric``), not about the edge pixel itself (numpy's ``reflect``).

    Returns:
        ``(…, top + H + bottom, left + W + right)``; ``image`` itself where there is nothing to add.
    """
    for axis, before, after in ((-2, top, bottom), (-1, left, right)):
        if before or after:
            index = torch.arange(-before, image.shape[axis] + after, device=image.device)
            image = image.index_select(axis, _mirrored(index, image.shape[axis], repeat_edge=repeat_edge))
    return image


def _mirrored(index: Tensor, size: int, *, repeat_edge: bool) -> Tensor:
    if repeat_edge:
        index = index % (2 * size)
        return torch.minimum(index, 2 * size - 1 - index)
    if size == 1:
        return torch.zeros_like(index)
    index = index % (2 * size - 2)
    return torch.minimum(index, 2 * size - 2 - index)
