"""A yard at night under one lamp, made from the daylight clip ``vtest.avi`` of Debian's ``opencv-doc``."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import camera
import cv2
import numpy as np

Array = np.ndarray

WIDTH, HEIGHT = 768, 576
RATE = Fraction(10)
LAMP = (419.0, 30.0)  # where the daylight clip shows the head of the lamp
NIGHT = 1 / 28  # how much darker than the daylight picture the unlit yard is, in linear light


def light_map() -> Array:
    """What falls on every pixel of the scene: (H, W, 3) float32, 1 = daylight of the original clip."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    # The pool under the lamp is an ellipse on the ground, brightest beyond the foot of the pole.
    pool = np.exp(-((((x - 455) / 190) ** 2 + ((y - 215) / 85) ** 2) ** 0.75))
    # The lamp also reaches the brick wall beside it.
    wall = 0.55 * np.exp(-(((x - 470) / 120) ** 2 + ((y - 45) / 55) ** 2)) * (y < 118)
    # Light from outside the picture on the road to the right; the lower left corner gets the least.
    spill = 0.25 * np.exp(-(((x - 760) / 200) ** 2 + ((y - 130) / 120) ** 2))
    ambient = 0.34 + 0.30 * (x / WIDTH) - 0.16 * (y / HEIGHT)
    sodium = np.array([1.0, 0.74, 0.42], np.float32)  # warm lamp
    street = np.array([0.9, 0.9, 1.0], np.float32)
    sky = np.array([0.62, 0.78, 1.0], np.float32)  # what is left of the sky
    lamp = 2.1 * (pool + wall)
    out = lamp[..., None] * sodium + spill[..., None] * street + ambient[..., None] * sky
    return (NIGHT * out).astype(np.float32)


def lamp_glow() -> Array:
    """The lamp itself and the light it scatters in the air: (H, W, 3) float32."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    dx, dy = (x - LAMP[0]) / 17, (y - LAMP[1]) / 6
    head = 14.0 * np.exp(-((dx**2 + dy**2) ** 1.5))
    return (head[..., None] * np.array([1.0, 0.84, 0.56], np.float32)).astype(np.float32)


def lit_window() -> Array:
    """One window where somebody still works: (H, W, 3) float32 added light."""
    out = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    cv2.fillPoly(out, [np.array([(437, 38), (459, 38), (459, 80), (437, 79)])], (0.13, 0.105, 0.06))
    out *= np.linspace(1.5, 0.5, HEIGHT, dtype=np.float32)[:, None, None] ** 2  # a blind, brighter at the top
    return cv2.GaussianBlur(out, (0, 0), 1.0)


def stamp(rgb8: Array, second: int) -> None:
    """Print what such cameras print: name and time, in place."""
    text = f"CAM 03  2026-11-20 23:41:{7 + second:02d}"
    for colour, thick in (((0, 0, 0), 3), ((205, 205, 205), 1)):
        cv2.putText(rgb8, text, (12, HEIGHT - 14), cv2.FONT_HERSHEY_PLAIN, 1.1, colour, thick, cv2.LINE_AA)


def frames(source: Path, *, seed: int, first: int = 300, count: int = 90) -> Iterator[Array]:
    """Yield the night version of ``count`` frames of ``source``, each (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng([seed, 1])
    light, glow = light_map(), lamp_glow() + lit_window()
    with av.open(str(source)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index < first:
                continue
            if index >= first + count:
                return
            day = cv2.GaussianBlur(frame.to_ndarray(format="rgb24"), (0, 0), 0.6)  # undo some sharpening
            scene = camera.bloom(camera.to_linear(day) * light + glow)
            night = camera.expose(scene, rng, full_well=1600.0, read_noise=3.2, row_noise=0.5, black=0.0008)
            stamp(night, int((index - first) / RATE))
            yield night


def write(source: Path, target: Path, *, seed: int) -> None:
    """Write the clip as a cheap network camera would: H.264, fixed rate, no B-frames, little bit rate."""
    with av.open(str(target), "w", options={"movflags": "+faststart"}) as out:
        out.metadata["title"] = "Yard at night"
        stream = out.add_stream(
            "libx264",
            rate=RATE,
            options={"preset": "medium", "crf": "24", "bf": "0", "g": "50", "threads": "1", "profile": "main"},
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for rgb in frames(source, seed=seed):
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            out.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU601")))
        out.mux(stream.encode(None))
