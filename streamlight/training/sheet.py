"""Sample sheets: what a network does, at full size, beside what it should do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from streamlight.errors import MediaError
from streamlight.media import disk_errors, partial_path
from streamlight.media.destination import publish

_LINE = 22
_GAP = 4
_SCALE = 0.45


def write_sheet(path: Path, columns: Sequence[Tensor], *, captions: Sequence[str], names: Sequence[str]) -> None:
    """Write a table of pictures as PNG: one row per picture with its name, one column per caption, pixels as they are.

    Args:
        path: The PNG.
        columns: ``(N, 3, H, W)`` RGB each, clipped to [0, 1]. Sizes may differ from column to column.
        captions: One per column.
        names: One per picture.

    Raises:
        ValueError: There is not one caption per column.
        MediaError: The file cannot be written.
    """
    import cv2

    if len(columns) != len(captions):
        raise ValueError(f"expected one caption per column, got {len(captions)} for {len(columns)}")
    parts = [_labelled(*column) for column in zip(columns, captions, strict=True)]
    height = max(part.shape[1] for part in parts)
    rows = []
    for index, name in enumerate(names[: len(parts[0])]):
        cells = [_padded(part[index], height) for part in parts]
        row = np.concatenate(cells, axis=1)
        rows += [_text(name, row.shape[1]), row]
    done, data = cv2.imencode(".png", np.concatenate(rows)[:, :, ::-1])
    if not done:
        raise MediaError(f"{path}: the sample sheet cannot be encoded")
    partial = partial_path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data.tobytes())
    publish(partial, path, overwrite=True)


def _labelled(pictures: Tensor, caption: str) -> np.ndarray:
    """``(N, H, W, 3)`` uint8 with the caption above each."""
    pixels = (pictures.detach().float().cpu().clamp(0.0, 1.0) * 255.0).round().byte().permute(0, 2, 3, 1).numpy()
    head = np.broadcast_to(_text(caption, pixels.shape[2]), (len(pixels), _LINE, pixels.shape[2], 3))
    gap = np.zeros((len(pixels), _LINE + pixels.shape[1], _GAP, 3), np.uint8)
    return np.concatenate([np.concatenate([head, pixels], axis=1), gap], axis=2)


def _padded(cell: np.ndarray, height: int) -> np.ndarray:
    return np.pad(cell, ((0, height - cell.shape[0]), (0, 0), (0, 0)))


def _text(text: str, width: int) -> np.ndarray:
    import cv2

    line = np.full((_LINE, width, 3), 32, np.uint8)
    # The fonts of OpenCV know ASCII only.
    plain = text.encode("ascii", "replace").decode()
    return np.asarray(
        cv2.putText(line, plain, (4, _LINE - 7), cv2.FONT_HERSHEY_SIMPLEX, _SCALE, (230, 230, 230), 1, cv2.LINE_AA)
    )
