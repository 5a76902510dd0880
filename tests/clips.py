"""Tiny dark clips, made by PyAV directly and not by the product, and packets read the same way."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def dark_picture(index: int, width: int = 64, height: int = 48, *, seed: int = 0) -> np.ndarray:
    """A dark gradient with a moving lamp and sensor noise, packed yuv420p as PyAV takes it."""
    rng = np.random.default_rng((seed, index))
    yy, xx = np.mgrid[0:height, 0:width]
    luma = 22 + 20 * xx / width + 8 * yy / height
    luma = luma + 150 * np.exp(-((xx - (index * 2) % width) ** 2 + (yy - height / 2) ** 2) / 18)
    luma = luma + rng.normal(0, 2, luma.shape)
    chroma = rng.normal(128, 1.5, (height // 2, width))
    return np.clip(np.concatenate([luma, chroma]), 16, 235).astype(np.uint8)


def make_clip(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (64, 48),
    rate: int = 25,
    sound: bool = True,
    seed: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """An H.264 clip with B-frames and, if wanted, AAC sound of the same length."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.gop_size = 12
        video.options = {"preset": "ultrafast", "bf": "2", "crf": "18", "threads": "1"} | (options or {})
        audio: Any = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(dark_picture(index, *size, seed=seed), format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, rate)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        if audio is not None:
            samples = frames * 8000 // rate
            tone = (np.sin(np.arange(samples) * 0.3) * 8000).astype(np.int16)
            for start in range(0, samples - samples % 1024, 1024):
                block = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = 8000, start, Fraction(1, 8000)
                out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path


def packets(path: Path) -> list[tuple[Any, ...]]:
    """Every packet of every stream: stream, pts, dts, duration, key flag, digest of its bytes."""
    with av.open(str(path)) as container:
        return [
            (p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, hashlib.sha256(bytes(p)).hexdigest())
            for p in container.demux()
            if p.size
        ]


def video_times(path: Path) -> list[Fraction]:
    """Presentation times of the decoded frames, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def mean_luma(path: Path) -> float:
    """Mean luma code over all frames."""
    with av.open(str(path)) as container:
        return float(np.mean([f.to_ndarray(format="gray").mean() for f in container.decode(video=0)]))
