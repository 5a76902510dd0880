"""From a `Frame`'s planes to the picture an encoder takes, with as few copies as possible."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from streamlight.errors import MediaError
from streamlight.media.encode import EncoderPlan, same_shape
from streamlight.media.frame import Frame

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
    """

    def __init__(self, plan: EncoderPlan) -> None:
        self.plan = plan
        self.captions = 0
        self._picture: av.VideoFrame | None = None
        self._reformatter = VideoReformatter()
        self._copier: Graph | None = None

    def pack(self, frame: Frame) -> av.VideoFrame:
        """The frame's picture with pts, time base, duration, colour and closed captions.

        Raises:
            MediaError: The frame has another size, format or time base than the plan was made for.
        """
        plan = self.plan
        if not same_shape(plan, frame.color, frame.width, frame.height) or frame.time_base != plan.time_base:
            raise MediaError(
                f"frame {frame.index} is {frame.width}x{frame.height} {frame.color.chroma} {frame.color.bit_depth} bit "
                f"in 1/{1 / frame.time_base} s; the encoder was set up for {plan.source_width}x{plan.source_height} "
                f"{plan.source_format} in {plan.time_base} s: all frames of one job must agree"
            )
        picture = self._blank(frame)
        _fill(picture, frame.planes)
        if picture.format.name != plan.pix_fmt:
            picture = self._convert(picture)
        picture.pts, picture.time_base, picture.duration = frame.pts, frame.time_base, frame.duration
        picture.pict_type = 0
        return picture

    def _blank(self, frame: Frame) -> av.VideoFrame:
        """A picture to write planes into: with the source's captions if it has any, else the reused one."""
        plan = self.plan
        if has_captions(frame.origin):
            self.captions += 1
            carrier = self._carrier(frame.origin)
            if carrier is not None:
                return carrier
        if self._picture is None:
            self._picture = av.VideoFrame(plan.width, plan.height, plan.source_format)
            self._picture.colorspace = _MATRIX_CODES.get(plan.matrix, 2)
            self._picture.color_range = 2 if plan.full_range or plan.tags[1] == 2 else 1
        else:
            self._picture.make_writable()  # a copy only if the encoder still holds the last one
        return self._picture

    def _carrier(self, origin: Any) -> av.VideoFrame | None:
        """A private copy of the decoder's frame: the only way to hand its side data on through PyAV."""
        plan = self.plan
        if (origin.width, origin.height, origin.format.name) != (plan.width, plan.height, plan.source_format):
            return None
        if self._copier is None:
            self._copier = Graph()
            source = self._copier.add_buffer(
                width=origin.width, height=origin.height, format=origin.format, time_base=Fraction(1, 1000)
            )
            self._copier.link_nodes(source, self._copier.add("copy"), self._copier.add("buffersink")).configure()
        self._copier.push(origin)
        copy: Any = self._copier.pull()
        return copy if isinstance(copy, av.VideoFrame) else None

    def _convert(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Another chroma layout, depth or range through swscale, with the frame's own matrix on both sides."""
        plan = self.plan
        matrix = _MATRIX_CODES.get(plan.matrix, 2)
        output_full = plan.full_range or plan.tags[1] == 2
        input_full = picture.color_range == 2
        return self._reformatter.reformat(
            picture,
            format=plan.pix_fmt,
            src_colorspace=_SWS_MATRIX.get(matrix, 5),
            dst_colorspace=_SWS_MATRIX.get(matrix, 5),
            src_color_range=2 if input_full else 1,
            dst_color_range=2 if output_full else 1,
        )


_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""H.273 matrix to swscale's SWS_CS_* numbers."""


def has_captions(origin: Any) -> bool:
    """Whether a decoder's frame carries A53 closed captions."""
    return origin is not None and any(item.type == _CAPTIONS for item in origin.side_data)


def _fill(picture: av.VideoFrame, planes: tuple[np.ndarray, ...]) -> None:
    """Copy planes into the picture; where it is larger, repeat the last column and row."""
    for target, plane in zip(picture.planes, planes, strict=True):
        view = plane_view(target, plane.dtype)
        height, width = plane.shape
        view[:height, :width] = plane
        if view.shape[1] > width:
            view[:height, width:] = plane[:, -1:]
        if view.shape[0] > height:
            view[height:] = view[height - 1]


def plane_view(plane: av.video.plane.VideoPlane, dtype: np.dtype[Any]) -> np.ndarray:
    """A writable ``(H, W)`` view of an ``av`` plane without its row padding; uint8 or uint16, one component."""
    samples: np.ndarray = np.frombuffer(plane, dtype)  # type: ignore[call-overload]  # a buffer, says PyAV's base class
    stride = plane.line_size // np.dtype(dtype).itemsize
    return samples[: stride * plane.height].reshape(plane.height, stride)[:, : plane.width]
