"""From a decoder's picture to numpy planes, without copying where the format allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from streamlight.media import color
from streamlight.media.frame import ColorSpec

# Bit-exact and accurately rounded, with chroma at full resolution: conversions must not depend on the machine.
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
_SAME_SIZE = Interpolation.BICUBIC | _EXACT | Interpolation.FULL_CHR_H_INP

_SWS_MATRIX = {
    "bt709": Colorspace.ITU709, "fcc": Colorspace.FCC, "bt470bg": Colorspace.ITU601, "smpte170m": Colorspace.ITU601,
    "smpte240m": Colorspace.SMPTE240M, "bt2020nc": Colorspace.BT2020, "bt2020c": Colorspace.BT2020,
}  # fmt: skip


def view_planes(picture: Any, layout: color.PixelLayout) -> tuple[np.ndarray, ...]:
    """Planes of a planar picture as read-only views into the decoder's buffers.

    Args:
        picture: ``av.VideoFrame`` in the layout's target format. The views keep its buffers alive.
        layout: From :func:`streamlight.media.color.pixel_layout`.

    Returns:
        Y, Cb, Cr (Y alone for ``"400"``), each ``(H, W)``, uint8 or uint16, rows possibly padded.
    """
    dtype = np.dtype(np.uint8 if layout.bit_depth == 8 else "<u2")
    count = 1 if layout.chroma == "400" else 3
    return tuple(_view_plane(plane, dtype) for plane in picture.planes[:count])


def _view_plane(plane: Any, dtype: np.dtype[Any]) -> np.ndarray:
    stride = abs(plane.line_size)
    view = np.frombuffer(plane, np.uint8).reshape(plane.height, stride)
    if dtype.itemsize > 1:
        view = view[:, : stride - stride % dtype.itemsize].view(dtype)
    if plane.line_size < 0:  # stored bottom up
        view = view[::-1]
    view = view[:, : plane.width]
    # The decoder still predicts from these samples: writing to them would damage later frames.
    view.flags.writeable = False
    return view


def rgb_planes(picture: Any, spec: ColorSpec) -> tuple[np.ndarray, ...]:
    """Full-range BT.709 YCbCr 4:4:4 planes of a planar RGB picture, rounded to the nearest code.

    Computed here rather than by swscale, whose fixed-point RGB → YCbCr is off by a code now and then: with two more
    bits than the source (see :func:`streamlight.media.color.rgb_depth`) the way back gives the very same RGB.

    Args:
        picture: ``av.VideoFrame`` in a ``gbrp*`` format.
        spec: Colour of the result (full range, BT.709, 4:4:4).
    """
    depth = picture.format.components[0].bits
    dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
    green, blue, red = (_view_plane(plane, dtype).astype(np.float32) for plane in picture.planes[:3])
    red_weight, blue_weight = 0.2126, 0.0722
    luma = red_weight * red + (1.0 - red_weight - blue_weight) * green + blue_weight * blue
    scale, middle = spec.peak / ((1 << depth) - 1), 1 << (spec.bit_depth - 1)
    planes = (
        luma * scale,
        (blue - luma) * (scale / (2.0 - 2.0 * blue_weight)) + middle,
        (red - luma) * (scale / (2.0 - 2.0 * red_weight)) + middle,
    )
    return tuple(np.clip(np.rint(plane), 0, spec.peak).astype(spec.dtype) for plane in planes)


class PlaneReader:
    """Turns decoded pictures of one stream into planes of one size and format: those of the first picture.

    Not thread-safe; one per stream.

    Attributes:
        layout: Layout of the delivered planes.
        spec: Colour of the delivered planes.
        width: Luma width of every delivered picture.
        height: Luma height of every delivered picture.
    """

    def __init__(self, first: Any, spec: ColorSpec) -> None:
        """Take size, format and colour from the first picture (``av.VideoFrame``) and its ``ColorSpec``."""
        self.layout = color.pixel_layout(first.format)
        self.spec = spec
        self.width: int = first.width
        self.height: int = first.height
        self._source = first.format.name
        self._tags = color.tags_of(first)
        self._reformatter = VideoReformatter()

    def differs(self, picture: Any) -> bool:
        """Whether a picture has another size, pixel format, matrix or range than the first one."""
        return (
            picture.width != self.width
            or picture.height != self.height
            or picture.format.name != self._source
            or color.tags_of(picture)[:2] != self._tags[:2]
        )

    def read(self, picture: Any) -> tuple[np.ndarray, ...]:
        """Planes of a picture in the size, format and colour of the first one (see :func:`view_planes`)."""
        if self.differs(picture):
            picture = self._conform(picture)
        elif self._source != self.layout.target:
            picture = self._rearrange(picture)
        return rgb_planes(picture, self.spec) if self.layout.rgb else view_planes(picture, self.layout)

    def _rearrange(self, picture: Any) -> Any:
        """The same picture in the planar target format."""
        # Source and target carry the same samples, so matrix and range must not come into it.
        span = ColorRange.JPEG if self.spec.range == "full" else ColorRange.MPEG
        return self._reformatter.reformat(
            picture, format=self.layout.target, src_color_range=span, dst_color_range=span, interpolation=_SAME_SIZE,
            threads=1,
        )  # fmt: skip

    def _conform(self, picture: Any) -> Any:
        """Another size, format or colour, converted to that of the first picture."""
        layout = color.pixel_layout(picture.format)
        spec = color.color_spec(layout, color.tags_of(picture), picture.height)
        return self._reformatter.reformat(
            picture, width=self.width, height=self.height, format=self.layout.target,
            src_colorspace=_SWS_MATRIX.get(spec.matrix, Colorspace.ITU601),
            dst_colorspace=_SWS_MATRIX.get(self.spec.matrix, Colorspace.ITU601),
            src_color_range=ColorRange.JPEG if spec.range == "full" or layout.rgb else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG if self.spec.range == "full" else ColorRange.MPEG,
            interpolation=_SAME_SIZE, threads=1,
        )  # fmt: skip
