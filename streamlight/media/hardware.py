"""Decoding on a graphics card (NVDEC): opening the decoder, seeing that it does what is asked, and when to leave it.

A card is used only where its pictures are those of the software decoder, bit by bit: for codecs that define decoding
exactly, and while nothing is damaged. The first picture is compared; at the first oddity behind it (a packet without
its picture, a damaged picture, an error of the driver) the source goes on in software behind the last good frame.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available

from streamlight.errors import DeviceError
from streamlight.media.codecs import SOFTWARE_ENCODERS, encoder_options
from streamlight.media.cudadriver import CURRENT_CONTEXT, primary_context
from streamlight.media.encode import quiet_libav
from streamlight.media.frame import Frame
from streamlight.media.packer import has_captions
from streamlight.media.planes import PlaneReader
from streamlight.media.probing import SourceInfo
from streamlight.media.surfaces import CARD_LAYOUTS, SURFACE_DEPTHS, Downloader, Surface, on_card, planar_twin

HardwareDecode = Literal["off", "auto", "nvdec"]

NVDEC_DECODERS = {"h264": "h264", "hevc": "hevc", "av1": "av1", "vp9": "vp9"}
"""libavcodec's decoders that can use NVDEC, by codec; only codecs whose decoding is defined to the bit."""

TRIAL_SIZE = 256
TRIAL_PICTURES = 6

_FORMATS = CARD_LAYOUTS | {"yuvj420p": "nv12"}
"""Layout on the card for each pixel format of the software decoder."""


class HardwareLost(Exception):
    """The card's decoder cannot be trusted from here on; what is behind the last good frame is decoded in software."""


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card to decode on.

    Attributes:
        index: Number of the CUDA device.
    """

    index: int = 0

    def open(self, stream: Any) -> Any:
        """A decoder on the card for an ``av.VideoStream``: an ``av.VideoCodecContext`` that gives CUDA pictures.

        One of our own instead of the container's: libavformat prefers decoders that know no card for AV1, and would
        open a card for cover art, too.

        Raises:
            DeviceError: The codec, this build of FFmpeg, the driver or the card does not allow it.
        """
        theirs = stream.codec_context
        codec = theirs.codec.canonical_name
        if codec not in NVDEC_DECODERS:
            raise DeviceError(f"{codec} is not decoded on a card; {', '.join(NVDEC_DECODERS)} are")
        context = self._create(NVDEC_DECODERS[codec])
        if not context.is_hwaccel:
            raise DeviceError(f"this build of PyAV has no CUDA decoder for {codec}")
        return like(context, theirs)

    def _create(self, decoder: str) -> Any:
        if "cuda" not in hwdevices_available():
            raise DeviceError("this build of PyAV was made without CUDA; install its binary wheel")
        try:
            with primary_context(self.index):
                # Whether pictures really come from the card is looked at on every one of them.
                accel = HWAccel(
                    "cuda", str(self.index), allow_software_fallback=True, is_hw_owned=True, options=CURRENT_CONTEXT
                )  # fmt: skip
                return av.CodecContext.create(decoder, "r", hwaccel=accel)
        except (av.FFmpegError, ValueError, RuntimeError, NotImplementedError) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise DeviceError(
                f"CUDA device {self.index} does not open for decoding ({text}); it needs an NVIDIA GPU and its driver"
            ) from error


def opening_failure(device: int = 0) -> str | None:
    """Why a CUDA device does not open for decoding, in words; None if it does."""
    try:
        Card(device)._create(NVDEC_DECODERS["h264"])
    except DeviceError as error:
        return str(error)
    return None


def try_decoder(codec: str, *, device: int = 0) -> str | None:
    """Decode a small clip, made in memory, on a card.

    Args:
        codec: One of `NVDEC_DECODERS`.
        device: Number of the CUDA device.

    Returns:
        None if every picture came back, from the card and as software decodes it; else the reason.
    """
    try:
        with quiet_libav():
            clip = _clip(SOFTWARE_ENCODERS[codec])
            card = list(_decoded(clip, Card(device)))
            software = list(_decoded(clip, None))
    except (av.FFmpegError, DeviceError, ValueError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)
    if any(not on_card(picture) for picture in card):
        return "the decoder took software"
    if len(card) != len(software):
        return f"{len(card)} of {len(software)} pictures came out"
    try:
        host = [_rows(Downloader()(picture, "yuv420p")) for picture in card]
    except av.FFmpegError as error:
        return f"pictures cannot be read from the card ({error.strerror or error})"
    same = all(
        np.array_equal(*pair)
        for mine, theirs in zip(host, software, strict=True)
        for pair in zip(mine, _rows(theirs), strict=True)
    )
    return None if same else "its pictures are not those that software decodes"


def _clip(encoder: str) -> bytes:
    """A short clip in Matroska; 256x256, as cards refuse very small pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream: Any = output.add_stream(encoder, rate=25)
        stream.width = stream.height = TRIAL_SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = encoder_options(encoder, quality=None, preset=None, bframes=True)
        for number in range(TRIAL_PICTURES):
            picture = av.VideoFrame(TRIAL_SIZE, TRIAL_SIZE, "yuv420p")
            for plane in picture.planes:
                ramp = np.add.outer(np.arange(plane.height), np.arange(plane.line_size)) + 8 * number
                plane.update((ramp % 200 + 20).astype(np.uint8).tobytes())
            picture.pts = number
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _decoded(clip: bytes, card: Card | None) -> Iterator[Any]:
    container: Any
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context if card is None else card.open(stream)
        for packet in container.demux(stream):
            if packet.size:
                yield from decoder.decode(packet)
        yield from decoder.decode(None)


def like(context: Any, theirs: Any) -> Any:
    """Set an unopened decoder up as libavformat set up another one for the same stream; returns it."""
    context.extradata = theirs.extradata
    context.width, context.height = theirs.width, theirs.height
    context.reorder_depth = theirs.reorder_depth  # else the first pictures come out before those they follow
    context.colorspace, context.color_range = theirs.colorspace, theirs.color_range
    context.color_primaries, context.color_trc = theirs.color_primaries, theirs.color_trc
    # The card does the work; more threads would only hold more pictures.
    context.thread_count, context.thread_type = 1, "NONE"
    return context


def refusal(info: SourceInfo, *, deinterlace: str, reopenable: bool) -> str | None:
    """Why a source is not decoded on a card, in words; None if it may be.

    Args:
        info: What the software decoder's first picture says.
        deinterlace: ``"auto"``, ``"off"`` or ``"all"``.
        reopenable: Whether it can be read a second time.
    """
    if info.is_image:
        return "it is a still image"
    if not reopenable:
        return "it can be read only once, and software could not take over"
    if info.codec not in NVDEC_DECODERS:
        return f"{info.codec} is not decoded on a card; {', '.join(NVDEC_DECODERS)} are"
    if info.pix_fmt not in _FORMATS:
        return f"pictures in {info.pix_fmt} are not decoded on a card; 4:2:0 with 8 or 10 bit is"
    if info.width % 2 or info.height % 2:
        return f"{info.width}x{info.height} is an odd size"
    if info.hdr is not None:
        return "HDR is converted in main memory"
    if deinterlace == "all" or (deinterlace == "auto" and info.interlaced):
        return "interlaced pictures are deinterlaced in main memory"
    return None


class CardPictures:
    """What a source does with the pictures of one card. For one thread at a time.

    Attributes:
        card: Where they are decoded.
        download: Brings pictures to main memory.
    """

    def __init__(self, card: Card, native: str, *, keep: bool) -> None:
        """Prepare for one stream.

        Args:
            card: Where it is decoded.
            native: Pixel format of the software decoder's first picture.
            keep: Whether frames may stay on the card.
        """
        self.card = card
        self.download = Downloader()
        self._native = native
        self._keep = keep

    def to_host(self, picture: Any) -> Any:
        """The ``av.VideoFrame`` as the software decoder gives it; one that is in main memory as it is.

        Raises:
            HardwareLost: The card does not give it back.
        """
        if not on_card(picture):
            return picture
        try:
            return self.download(picture, planar_twin(picture, self._native))
        except av.error.FFmpegError as error:
            raise HardwareLost(f"a picture cannot be read from the card ({error.strerror or error})") from error

    def settle(self, picture: Any, reader: PlaneReader) -> Any:
        """The picture itself if its frame may stay on the card, else a copy in main memory.

        Args:
            picture: ``av.VideoFrame``.
            reader: Knows what the stream's frames look like.
        """
        if not on_card(picture) or (self._keep and self._fits(picture, reader)):
            return picture
        return self.to_host(picture)

    def _fits(self, picture: Any, reader: PlaneReader) -> bool:
        size = (picture.width, picture.height)
        layout = picture.sw_format.name if picture.sw_format is not None else ""
        return (
            layout in SURFACE_DEPTHS
            and layout == _FORMATS.get(self._native)
            and size == (reader.width, reader.height)
            and not reader.retagged(picture)
        )

    def check_first(self, picture: Any, software: Any) -> None:
        """See that the card gives the picture that the software decoder gives.

        Args:
            picture: First ``av.VideoFrame`` of the card, or None.
            software: That of the software decoder.

        Raises:
            DeviceError: It is not the same one, or not from the card.
        """
        if picture is None:
            raise DeviceError("the card gives no picture")
        if not on_card(picture):
            raise DeviceError("the card refuses this stream (profile, size or level), and the decoder took software")
        mine = self.to_host(picture)
        if (mine.pts, mine.width, mine.height, mine.format.name) != (
            software.pts, software.width, software.height, software.format.name,
        ) or any(not np.array_equal(*pair) for pair in zip(_rows(mine), _rows(software), strict=True)):  # fmt: skip
            raise DeviceError("the card's first picture is not the one that the software decoder gives")

    def attach(self, frame: Frame, picture: Any) -> Frame:
        """Give a frame the planes of a picture on the card.

        Such a frame has no ``origin``: that would hold the decoder's memory until it is written. Closed captions are
        the exception; the picture that carries them is brought to main memory for it.
        """
        target = planar_twin(picture, self._native)
        frame.planes = Surface(picture, self.download, target)  # type: ignore[assignment]
        frame.origin = self.to_host(picture) if has_captions(picture) else None
        return frame


def _rows(picture: Any) -> list[np.ndarray]:
    """Bytes of each plane of a planar picture, without the padding of its rows."""
    width = 2 if "10" in picture.format.name else 1
    rows = []
    for plane in picture.planes:
        samples = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        rows.append(samples[:, : plane.width * width])
    return rows
