"""What storing does to a picture: 8 bit, 4:2:0 in limited range, JPEG, H.264 and HEVC by real encoders."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamlight.enhance.color import planes_from_rgb, rgb_from_planes
from streamlight.errors import ConfigError, MediaError
from streamlight.media import ColorSpec, EncodeSettings, Frame
from streamlight.media.recode import SMALLEST, recode
from streamlight.training.degradation.parameters import Coding

if TYPE_CHECKING:
    from streamlight.media.codecs import VideoCodec

_RATE = 25


def is_video(coding: Coding) -> bool:
    """Whether frames are coded together, by a video codec."""
    return coding.codec in ("h264", "hevc")


def store(frames: Tensor, coding: Coding) -> Tensor:
    """Frames as they come back from storage.

    Args:
        frames: ``(T, 3, H, W)`` float RGB; clipped to [0, 1]. Frames in order of time, all of one view.
        coding: How they are stored.

    Returns:
        Same shape, float32, multiples of 1/255.

    Raises:
        MediaError: The encoder failed.
    """
    frames = frames.float().clamp(0.0, 1.0)
    if is_video(coding):
        frames = _through_video(frames, coding)
    elif coding.codec == "jpeg":
        frames = torch.stack([_through_jpeg(frame, coding.quality or 90) for frame in frames])
    elif coding.subsampled:
        frames = torch.stack([_through_planes(frame, coding) for frame in frames])
    return (frames * 255.0).round() / 255.0


def encode_settings(coding: Coding, container: str | os.PathLike[str] = "x.mkv") -> EncodeSettings:
    """Settings of the encoder that writes a clip: the one of the record, or a lossless one.

    Args:
        coding: How the clip is stored.
        container: Destination; only its suffix matters.

    Raises:
        ConfigError: JPEG, which holds no clips.
    """
    if coding.codec == "jpeg":
        raise ConfigError("a clip cannot be stored as JPEG; use h264, hevc or none")
    if coding.codec == "none":
        return lossless_settings(container)
    codec: VideoCodec = coding.codec
    # One thread: frame threads change what rate control and motion search see, and the bits with it.
    return EncodeSettings(codec=codec, quality=coding.quality, preset=coding.preset, threads=1)


def lossless_settings(container: str | os.PathLike[str]) -> EncodeSettings:
    """FFV1 in Matroska. Other containers lose its colour matrix, so they get lossless H.264."""
    if Path(container).suffix.lower() == ".mkv":
        return EncodeSettings(codec="ffv1")
    return EncodeSettings(codec="h264", quality=0, threads=1)


def video_color(coding: Coding) -> ColorSpec:
    """8 bit, 4:2:0, limited range: what a video codec gets."""
    code = {"bt709": 1, "smpte170m": 6}[coding.matrix]
    return ColorSpec(matrix=coding.matrix, range="limited", bit_depth=8, chroma="420", tags=(code, 1, 2, 2))


def _through_planes(frame: Tensor, coding: Coding) -> Tensor:
    color = video_color(coding)
    return rgb_from_planes(planes_from_rgb(frame, color), color)


def _through_video(frames: Tensor, coding: Coding) -> Tensor:
    height, width = frames.shape[-2:]
    bottom, right = max(SMALLEST - height, height % 2), max(SMALLEST - width, width % 2)
    bottom, right = bottom + (height + bottom) % 2, right + (width + right) % 2
    padded = F.pad(frames, (0, right, 0, bottom), mode="replicate")
    color = video_color(coding)
    pictures = [
        Frame(planes_from_rgb(frame, color), color, pts=index, time_base=Fraction(1, _RATE), index=index)
        for index, frame in enumerate(padded)
    ]
    decoded = recode(pictures, settings=encode_settings(coding), rate=Fraction(_RATE)).frames
    return torch.stack([rgb_from_planes(frame.planes, color)[:, :height, :width] for frame in decoded])


def _through_jpeg(frame: Tensor, quality: int) -> Tensor:
    import cv2

    pixels = (frame.flip(0).permute(1, 2, 0) * 255.0).round().byte().numpy()
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise MediaError(f"JPEG cannot hold a picture of {frame.shape[-1]}x{frame.shape[-2]} pixels")
    decoded = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return decoded.permute(2, 0, 1).flip(0).float() / 255.0
