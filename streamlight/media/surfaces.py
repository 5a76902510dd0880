"""Decoded pictures that stay in the memory of a card: what the upload stage takes over by DLPack, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from streamlight.media import color
from streamlight.media.planes import EXACT_BICUBIC, view_planes

CARD_LAYOUTS = {"yuv420p": "nv12", "yuv420p10le": "p010le"}
"""How cards keep pictures of a planar format."""

SURFACE_DEPTHS = {"nv12": 8, "p010le": 10}
"""Bits per sample of the formats that frames may stay in; all are 4:2:0 with Cb and Cr side by side in one plane."""


def on_card(picture: Any) -> bool:
    """Whether a decoded ``av.VideoFrame`` lies in the memory of a card."""
    return bool(picture.format.name == "cuda")


class SurfacePlane:
    """One plane of a surface, for ``torch.from_dlpack`` and other importers. What they import keeps the picture alive.

    Attributes:
        shape: ``(H, W)`` for luma, ``(H / 2, W / 2, 2)`` for Cb and Cr. Rows are padded.
        dtype: uint8, or uint16 with the value in the high bits.
    """

    __slots__ = ("_plane", "dtype", "shape")

    def __init__(self, plane: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Wrap an ``av.VideoPlane``."""
        self._plane = plane
        self.shape = shape
        self.dtype = dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's device type (2 is CUDA) and the index of the card."""
        kind, index = self._plane.__dlpack_device__()
        return int(kind), int(index)

    def __dlpack__(self, *, stream: int | None = None, max_version: tuple[int, int] | None = None) -> Any:
        """A DLPack capsule of the memory itself; read-only by agreement, as the decoder may still predict from it.

        Args:
            stream: Ignored, as PyAV refuses any. The decoder works on the device's legacy default stream: whoever
                reads must make the own stream wait for that one first.
            max_version: Ignored; the capsule is an unversioned one.
        """
        return self._plane.__dlpack__()


class Surface(Sequence[SurfacePlane]):
    """One picture in the memory of a card, as :attr:`Frame.planes` between decoder and upload stage.

    Attributes:
        planes: Y, and interleaved Cb and Cr.
        layout: ``"nv12"``, or ``"p010"`` for 16 bits a sample.
        shift: Bits that a stored sample is to be shifted right by to give its value: 0, or 6 for ``"p010"``.
        bit_depth: Bits of the value.
        width: Luma samples per line, even.
        height: Luma lines, even.
        chroma: Always ``"420"``.
    """

    def __init__(self, picture: Any, download: Downloader, target: str) -> None:
        """Wrap a picture that a hardware decoder gave.

        Args:
            picture: ``av.VideoFrame`` in one of the layouts of `SURFACE_DEPTHS`, with an even size.
            download: For :meth:`to_host`.
            target: Planar format of the same depth that :meth:`to_host` gives.
        """
        name = picture.sw_format.name
        dtype = np.dtype(np.uint8 if name == "nv12" else np.uint16)
        self.layout, self.bit_depth, self.chroma = name.removesuffix("le"), SURFACE_DEPTHS[name], "420"
        self.shift = 8 * dtype.itemsize - self.bit_depth
        self.width, self.height = int(picture.width), int(picture.height)
        shapes: tuple[tuple[int, ...], ...] = ((self.height, self.width), (self.height // 2, self.width // 2, 2))
        planes = zip(picture.planes, shapes, strict=True)
        self.planes = tuple(SurfacePlane(plane, shape, dtype) for plane, shape in planes)
        self._picture, self._download, self._target = picture, download, target

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: Any) -> Any:
        return self.planes[index]

    def to_host(self) -> tuple[np.ndarray, ...]:
        """Y, Cb, Cr in main memory as the software decoder gives them: uint8, or uint16 with the value in the low bits.

        Waits for the card. Read-only; the arrays do not refer to the surface.
        """
        picture = self._download(self._picture, self._target)
        return view_planes(picture, color.pixel_layout(picture.format))


class Downloader:
    """Brings pictures from a card to main memory, in the planar format of the same samples. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reformatter = VideoReformatter()

    def __call__(self, picture: Any, target: str) -> Any:
        """A copy of an ``av.VideoFrame`` in the planar format ``target``, with its times, flags and side data.

        Only the order of the samples changes; matrix and range do not come into it.
        """
        span = ColorRange.JPEG if picture.color_range == color.RANGE_FULL else ColorRange.MPEG
        with self._lock:
            return self._reformatter.reformat(
                picture, format=target, src_color_range=span, dst_color_range=span, interpolation=EXACT_BICUBIC,
                threads=1,
            )  # fmt: skip


def planar_twin(picture: Any, native: str) -> str:
    """The planar format that the software decoder would have given a picture in.

    Args:
        picture: ``av.VideoFrame`` on a card.
        native: Pixel format that the software decoder gave the first picture of the stream in.
    """
    target = color.pixel_layout(picture.sw_format).target
    full = native.startswith("yuvj") and picture.color_range == color.RANGE_FULL
    return target.replace("yuv", "yuvj", 1) if full and target in ("yuv420p", "yuv422p", "yuv444p") else target
