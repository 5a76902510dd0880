"""From a `Frame`'s planes to the picture an encoder takes, with as few copies as possible."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from streamlight.errors import MediaError
from streamlight.media.encode import EncoderPlan, same_shape
from streamlight.media.frame import Frame
from streamlight.media.nvenc import DeviceImporter, is_one_piece, is_semi_planar

_MATRIX_CODES = {
    "rgb": 0,
    "gbr": 0,
    "bt709": 1,
    "unspecified": 2,
    "fcc": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "ycgco": 8,
    "bt2020nc": 9,
    "bt2020c": 10,
}
_CAPTIONS = SideDataType.A53_CC


class FramePacker:
    """Turns frames into ``av.VideoFrame`` in the plan's size and pixel format.

    One picture buffer is reused while the encoder does not hold on to it, because a fresh 1080p buffer costs its page
    faults again. Not thread-safe; one per writer.

    Attributes:
        plan: What the pictures are for.
        captions: Frames that brought closed captions along.
        on_card: Whether the encoder takes pictures in CUDA memory as they are.
    """

    def __init__(self, plan: EncoderPlan) -> None:
        self.plan = plan
        self.captions = 0
        self.on_card = False
        self._importer = DeviceImporter(plan)
        grey = plan.source_format.startswith("gray") and not plan.pix_fmt.startswith("gray")
        # Grey frames for an encoder that wants chroma get neutral planes here: swscale takes grey for full range.
        self._format = plan.source_format.replace("gray", "yuv420p") if grey else plan.source_format
        self._neutral = (1 << plan.source_depth - 1) if grey else None
        self._full_range = plan.source_range == "full"
        self._picture: av.VideoFrame | None = None
        self._reformatter = VideoReformatter()
        self._copier: Graph | None = None
        self._copier_key: tuple[int, int, str] | None = None

    def pack(self, frame: Frame) -> av.VideoFrame:
        """The frame's picture with pts, time base, duration, colour and closed captions.

        Raises:
            MediaError: The frame has another size, format or time base than the plan was made for.
        """
        plan = self.plan
        if not same_shape(plan, frame.color, frame.width, frame.height) or frame.time_base != plan.time_base:
            raise MediaError(
                f"frame {frame.index} is {frame.width}x{frame.height} {frame.color.chroma} {frame.color.bit_depth} bit "
                f"with time base {frame.time_base}; the encoder was set up for {plan.source_width}x"
                f"{plan.source_height} {plan.source_format}, {plan.time_base}: all frames of one job must agree"
            )
        picture = self._imported(frame) if is_semi_planar(frame.planes) else self._filled(frame, frame.planes)
        if picture.format.name != plan.pix_fmt and not (self.on_card and picture.format.name == "cuda"):
            picture = self._convert(picture)
        picture.pts, picture.time_base, picture.duration = frame.pts, frame.time_base, frame.duration
        picture.pict_type = 0
        return picture

    def _filled(self, frame: Frame, planes: tuple[np.ndarray, ...]) -> av.VideoFrame:
        picture = self._blank(frame)
        _fill(picture, planes, self._neutral)
        return picture

    def _imported(self, frame: Frame) -> av.VideoFrame:
        """The picture of a frame that comes as Y and interleaved CbCr, on a card or in main memory."""
        picture = self._importer.picture(frame)
        if has_captions(frame.origin) or (self.plan.width, self.plan.height) != (frame.width, frame.height):
            # Only a picture in main memory can be filled into another one, which brings captions along or is larger.
            host = self._rearranged(picture)
            return self._filled(frame, tuple(plane_view(plane, frame.color.dtype) for plane in host.planes))
        return self._tagged(picture if is_one_piece(picture) else self._rearranged(picture))

    def _rearranged(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The same samples in three planes in main memory."""
        span = 2 if self._full_range else 1
        return self._reformatter.reformat(
            picture, format=self._format, src_color_range=span, dst_color_range=span, interpolation=_EXACT
        )

    def _blank(self, frame: Frame) -> av.VideoFrame:
        """A picture to write planes into: with the source's captions if it has any, else the reused one."""
        if has_captions(frame.origin):
            self.captions += 1
            return self._tagged(self._carrier(frame.origin))
        if self._picture is None:
            self._picture = self._tagged(av.VideoFrame(self.plan.width, self.plan.height, self._format))
        else:
            self._picture.make_writable()  # a copy only if the encoder still holds the last one
        return self._picture

    def _tagged(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Colour on the picture itself: ProRes takes it from there, not from the encoder's settings."""
        picture.colorspace, _, picture.color_primaries, picture.color_trc = self.plan.tags
        picture.color_range = 2 if self.plan.full_range or self.plan.tags[1] == 2 else self.plan.tags[1]
        return picture

    def _carrier(self, origin: Any) -> av.VideoFrame:
        """A private copy of the decoder's frame in our size and format: it brings the side data along.

        PyAV cannot attach side data to a frame, but filters copy it. The samples are overwritten afterwards.
        """
        plan = self.plan
        key = (origin.width, origin.height, origin.format.name)
        if self._copier is None or key != self._copier_key:
            self._copier, self._copier_key = Graph(), key
            source = self._copier.add_buffer(
                width=origin.width, height=origin.height, format=origin.format, time_base=Fraction(1, 1000)
            )
            scale = self._copier.add("scale", f"{plan.width}:{plan.height}:flags=neighbor")
            chain = (source, scale, self._copier.add("format", self._format), self._copier.add("buffersink"))
            self._copier.link_nodes(*chain).configure()
        self._copier.push(origin)
        copied: Any = self._copier.pull()
        copied.make_writable()  # filters hand an unchanged picture on as it is, and the decoder still needs it
        return copied

    def _convert(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Another chroma layout, depth or range through swscale, with the frame's own matrix on both sides."""
        matrix = _SWS_MATRIX.get(_MATRIX_CODES.get(self.plan.matrix, 2), 5)
        return self._reformatter.reformat(
            picture,
            format=self.plan.pix_fmt,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=2 if self._full_range else 1,
            dst_color_range=2 if self.plan.full_range else 1,
            interpolation=_EXACT,
        )


_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP

_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""H.273 matrix to swscale's SWS_CS_* numbers."""


def has_captions(origin: Any) -> bool:
    """Whether a decoder's frame carries A53 closed captions."""
    # Only coded YCbCr has them. PyAV 18.1 crashes over side data of PNG pictures, and refuses kinds it has no name for.
    if origin is None or not origin.format.name.startswith(("yuv", "nv", "p0", "p2", "cuda")):
        return False
    try:
        # ``origin.side_data`` would tie the picture into a reference cycle: it would stay in memory until the garbage
        # collector comes by, which is hundreds of megabytes later. A container of our own does not.
        return any(item.type == _CAPTIONS for item in SideDataContainer(origin))  # type: ignore[call-arg]
    except ValueError:
        return False


def _fill(picture: av.VideoFrame, planes: tuple[np.ndarray, ...], neutral: int | None) -> None:
    """Copy planes into the picture; where it is larger, repeat the last column and row; neutral chroma for grey."""
    for target, plane in zip(picture.planes, planes, strict=False):
        view = plane_view(target, plane.dtype)
        height, width = plane.shape
        view[:height, :width] = plane
        if view.shape[1] > width:
            view[:height, width:] = plane[:, -1:]
        if view.shape[0] > height:
            view[height:] = view[height - 1]
    if neutral is not None:
        for target in picture.planes[1:]:
            plane_view(target, planes[0].dtype)[:] = neutral


def plane_view(plane: av.video.plane.VideoPlane, dtype: np.dtype[Any]) -> np.ndarray:
    """A writable ``(H, W)`` view of an ``av`` plane without its row padding; uint8 or uint16, one component."""
    samples: np.ndarray = np.frombuffer(plane, dtype)  # type: ignore[call-overload]  # a buffer, says PyAV's base class
    stride = plane.line_size // np.dtype(dtype).itemsize
    return samples[: stride * plane.height].reshape(plane.height, stride)[:, : plane.width]
