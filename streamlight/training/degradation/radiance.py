"""Reading HDR radiance maps."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamlight.errors import MediaError

RADIANCE_SUFFIXES = frozenset({".hdr", ".exr"})


def is_radiance_name(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix is that of a radiance map."""
    return Path(path).suffix.lower() in RADIANCE_SUFFIXES


def read_radiance(path: str | os.PathLike[str]) -> Tensor:
    """Scene-linear RGB of a Radiance (``.hdr``) or OpenEXR (``.exr``) file.

    Returns:
        ``(3, H, W)`` float32, >= 0, any scale.

    Raises:
        MediaError: It does not exist, is damaged, or OpenEXR is needed and not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise MediaError(f"'{file}' does not exist")
    pixels = _read_exr(file) if file.suffix.lower() == ".exr" else _read_hdr(file)
    if pixels.ndim != 3 or pixels.shape[2] < 3 or not pixels.size:
        raise MediaError(f"'{file}': expected an RGB picture, got samples of shape {pixels.shape}")
    finite = np.nan_to_num(np.asarray(pixels[:, :, :3], np.float32), nan=0.0, posinf=65504.0, neginf=0.0)
    return torch.from_numpy(np.ascontiguousarray(finite.clip(min=0.0).transpose(2, 0, 1)))


def _read_hdr(file: Path) -> np.ndarray:
    import cv2

    data = np.fromfile(file, np.uint8)
    pixels = None
    if bytes(data[:2]) == b"#?":
        try:
            pixels = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise MediaError(f"'{file}' is no Radiance picture, or is damaged")
    return pixels[:, :, ::-1] if pixels.ndim == 3 else pixels


def _read_exr(file: Path) -> np.ndarray:
    try:
        exr = import_module("OpenEXR")
    except ImportError as error:
        raise MediaError(f"'{file}': reading OpenEXR needs the package OpenEXR; run: pip install OpenEXR") from error
    try:
        with exr.File(str(file)) as opened:
            channels = opened.channels()
            if "RGB" in channels or "RGBA" in channels:
                return np.asarray(channels["RGB" if "RGB" in channels else "RGBA"].pixels)
            return np.stack([channels[name].pixels for name in "RGB"], axis=2)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise MediaError(f"'{file}' holds no R, G and B channels, or is damaged ({error})") from error
