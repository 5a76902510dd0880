"""A card without a card: software decoders whose pictures look as if they lay in CUDA memory, faults on request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import pytest

from streamlight.media import hardware, surfaces
from streamlight.media.hardware import Card, like

_CARD_LAYOUTS = {8: "nv12", 10: "p010le"}


class CudaPicture:
    """What PyAV gives for a picture in CUDA memory, as far as it is used; its samples lie in main memory."""

    def __init__(self, picture: av.VideoFrame) -> None:
        span = 2 if picture.color_range == 2 else 1
        depth = picture.format.components[0].bits
        name = _CARD_LAYOUTS.get(depth, "p016le") if picture.format.name.startswith("yuv") else picture.format.name
        if "444" in picture.format.name:
            name = "yuv444p"
        self.inner = picture.reformat(format=name, src_color_range=span, dst_color_range=span)
        self.inner.pts, self.inner.duration = picture.pts, picture.duration
        self.format = av.VideoFormat("cuda", picture.width, picture.height)
        self.sw_format = self.inner.format
        self.pts, self.dts, self.duration = picture.pts, picture.dts, picture.duration
        self.is_corrupt = picture.is_corrupt
        for name in (
            "width", "height", "key_frame", "interlaced_frame", "colorspace", "color_range", "color_primaries",
            "color_trc", "rotation", "time_base",
        ):  # fmt: skip
            setattr(self, name, getattr(picture, name))

    @property
    def planes(self) -> tuple[Any, ...]:
        return self.inner.planes


class Unwrapping:
    """``VideoReformatter`` that downloads such pictures, too."""

    broken = False

    def __init__(self) -> None:
        self._real = av.video.reformatter.VideoReformatter()

    def reformat(self, picture: Any, **more: Any) -> Any:
        if isinstance(picture, CudaPicture):
            if Unwrapping.broken:
                raise av.error.ExternalError(-542398533, "Generic error in an external library")
            picture = picture.inner
        return self._real.reformat(picture, **more)


@dataclass
class Faults:
    """What a decoder does wrong: numbers of pictures in order of output, or of packets in order of input.

    Attributes:
        drop: Pictures that never come out.
        software: Pictures that come out in main memory.
        corrupt: Pictures flagged as damaged.
        refuse: Packets that raise an error.
        wrong: Pictures with one wrong sample.
    """

    drop: set[int] = field(default_factory=set)
    software: set[int] = field(default_factory=set)
    corrupt: set[int] = field(default_factory=set)
    refuse: set[int] = field(default_factory=set)
    wrong: set[int] = field(default_factory=set)


class FakeDecoder:
    """A decoder on a card, with faults."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        name = stream.codec_context.codec.canonical_name
        self._inner = like(av.CodecContext.create("libdav1d" if name == "av1" else name, "r"), stream.codec_context)
        self._faults = faults
        self._packets = self._pictures = 0

    def decode(self, packet: Any) -> list[Any]:
        number, self._packets = self._packets, self._packets + 1
        if packet is not None and number in self._faults.refuse:
            raise av.error.ExternalError(-542398533, "Generic error in an external library")
        return [out for picture in self._inner.decode(packet) for out in self._given(picture)]

    def _given(self, picture: av.VideoFrame) -> list[Any]:
        number, self._pictures = self._pictures, self._pictures + 1
        if number in self._faults.drop:
            return []
        if number in self._faults.software:
            return [picture]
        given = CudaPicture(picture)
        given.is_corrupt = given.is_corrupt or number in self._faults.corrupt
        if number in self._faults.wrong:
            samples = np.frombuffer(given.inner.planes[1], np.uint8)
            samples[0] ^= 1
        return [given]


class FakeCard:
    """Puts itself in place of real cards.

    Attributes:
        faults: Of all decoders opened from now on.
        opened: Decoders that were opened.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faults = Faults()
        self.opened = 0
        Unwrapping.broken = False
        monkeypatch.setattr(Card, "open", lambda card, stream: self._open(stream))
        monkeypatch.setattr(surfaces, "VideoReformatter", Unwrapping)
        real = hardware.has_captions
        monkeypatch.setattr(hardware, "has_captions", lambda picture: real(getattr(picture, "inner", picture)))

    def _open(self, stream: Any) -> FakeDecoder:
        self.opened += 1
        return FakeDecoder(stream, self.faults)


@dataclass
class CudaPlane:
    """A plane that says it lies in CUDA memory, for what only looks at it."""

    shape: tuple[int, ...]
    device: int = 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device
