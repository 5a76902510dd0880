"""Make the before | after pictures of the README from the sample clips, with the product itself.

python docs/make_images.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

import streamlight
from streamlight.media import Frame, open_source

REPO = Path(__file__).resolve().parent.parent
MOMENTS = {"drive": 9.0, "yard": 6.0}  # seconds
WARM_UP = 3.0  # the enhancer has seen this much of the clip before, as it would have in use
WIDTH = 1280


def to_bgr(frame: Frame) -> np.ndarray:
    """(H, W, 3) uint8 BGR of an 8-bit 4:2:0 frame, by its own matrix and range."""
    luma = frame.planes[0].astype(np.float32)
    size = (frame.width, frame.height)
    cb, cr = (cv2.resize(p.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for p in frame.planes[1:])
    (y0, y1), (c0, c1) = frame.color.luma_scale(), frame.color.chroma_scale()
    kr, kb = (0.2126, 0.0722) if frame.color.matrix == "bt709" else (0.299, 0.114)
    y, b, r = (luma - y0) / y1, (cb - c0) / c1, (cr - c0) / c1
    red, blue = y + 2 * (1 - kr) * r, y + 2 * (1 - kb) * b
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.rint(np.clip(np.stack([blue, green, red], axis=2), 0, 1) * 255).astype(np.uint8)


def picture(clip: Path, seconds: float) -> np.ndarray:
    """Before and after at one moment, side by side, as ``streamlight enhance --compare`` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "compare.mp4")
        streamlight.enhance_video(
            clip, out, compare=True, start=max(0.0, seconds - WARM_UP), end=seconds + 0.2, quality=12
        )
        with open_source(out) as source:
            first: Frame | None = None
            for frame in source.frames():
                first = first or frame
                if frame.seconds - first.seconds >= min(seconds, WARM_UP):
                    return to_bgr(frame)
    raise SystemExit(f"{clip.name} is shorter than {seconds} s")


def main() -> None:
    """Write docs/images/*.jpg."""
    for name, seconds in MOMENTS.items():
        pair = picture(REPO / "samples" / f"{name}.mp4", seconds)
        height = round(pair.shape[0] * WIDTH / pair.shape[1])
        pair = cv2.resize(pair, (WIDTH, height), interpolation=cv2.INTER_AREA)
        path = REPO / "docs" / "images" / f"{name}.jpg"
        cv2.imwrite(str(path), pair, [cv2.IMWRITE_JPEG_QUALITY, 88])
        print(path.relative_to(REPO), path.stat().st_size)


if __name__ == "__main__":
    main()
