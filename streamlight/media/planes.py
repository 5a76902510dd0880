"""From a decoder's picture to numpy planes, without copying where the format allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from streamlight.media import color
from streamlight.media.frame import ColorSpec
from streamlight.media.orientation import turn_upright

# Bit-exact and accurately rounded, with chroma at full resolution: conversions must not depend on the machine.
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
EXACT_BICUBIC = Interpolation.BICUBIC | _EXACT | Interpolation.FULL_CHR_H_INP

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
        width: Luma width of the first picture, before it is turned.
        height: Luma height of the first picture, before it is turned.
    """

    def __init__(self, first: Any, spec: ColorSpec, *, orientation: int = 1) -> None:
        """Take size, format and colour from the first picture.

        Args:
            first: ``av.VideoFrame``.
            spec: How its planes are to be read.
            orientation: EXIF orientation that the planes are turned by.
        """
        self.layout = color.pixel_layout(first.format)
        self.spec = spec
        self.orientation = orientation
        if orientation != 1 and not self._turns_well(first):
            # Chroma samples of a turned picture would not lie between the same luma samples: give each its own.
            target = str(color.planar_format("444", spec.bit_depth))
            self.layout = replace(self.layout, target=target, chroma="444")
            self.spec = replace(spec, chroma="444")
        self.width: int = first.width
        self.height: int = first.height
        self._source = first.format.name
        self._tags = color.tags_of(first)
        self._reformatter = VideoReformatter()

    def _turns_well(self, first: Any) -> bool:
        even = first.width % 2 == 0 and first.height % 2 == 0
        return self.layout.chroma in ("400", "444") or (self.layout.chroma == "420" and even)

    def differs(self, picture: Any) -> bool:
        """Whether a picture has another size, pixel format, matrix or range than the first one."""
        if (picture.width, picture.height, picture.format.name) != (self.width, self.height, self._source):
            return True
        if not self.retagged(picture):
            return False
        spec = self._native_spec(picture)
        return (spec.matrix, spec.range) != (self.spec.matrix, self.spec.range)

    def retagged(self, picture: Any) -> bool:
        """Whether a picture is tagged with another matrix or range than the first one."""
        return color.tags_of(picture)[:2] != self._tags[:2]

    def read(self, picture: Any) -> tuple[np.ndarray, ...]:
        """Planes of a picture in the size, format and colour of the first one (see :func:`view_planes`)."""
        picture = self.conform(picture)
        planes = rgb_planes(picture, self.spec) if self.layout.rgb else view_planes(picture, self.layout)
        return planes if self.orientation == 1 else tuple(turn_upright(plane, self.orientation) for plane in planes)

    def _native_spec(self, picture: Any) -> ColorSpec:
        """Colour of a picture; what it leaves open is as in the first one."""
        layout = color.pixel_layout(picture.format)
        tags = color.tags_of(picture)
        first = (2, 0, 2, 2) if layout.rgb != self.layout.rgb else self.spec.tags
        return color.color_spec(layout, color.merge_tags(tags, first), picture.height)

    def conform(self, picture: Any) -> Any:
        """The picture in the layout's target format, and in size and colour of the first one."""
        if self.differs(picture):
            return self._convert(picture)
        return picture if self._source == self.layout.target else self._rearrange(picture)

    def _rearrange(self, picture: Any) -> Any:
        """The same picture in the planar target format."""
        # Source and target carry the same samples, so matrix and range must not come into it.
        span = ColorRange.JPEG if self.spec.range == "full" else ColorRange.MPEG
        return self._reformatter.reformat(
            picture, format=self.layout.target, src_color_range=span, dst_color_range=span, interpolation=EXACT_BICUBIC,
            threads=1,
        )  # fmt: skip

    def _convert(self, picture: Any) -> Any:
        """Another size, format or colour, converted to that of the first picture."""
        layout = color.pixel_layout(picture.format)
        spec = self._native_spec(picture)
        return self._reformatter.reformat(
            picture, width=self.width, height=self.height, format=self.layout.target,
            src_colorspace=_SWS_MATRIX.get(spec.matrix, Colorspace.ITU601),
            dst_colorspace=_SWS_MATRIX.get(self.spec.matrix, Colorspace.ITU601),
            src_color_range=ColorRange.JPEG if spec.range == "full" or layout.rgb else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG if self.spec.range == "full" else ColorRange.MPEG,
            interpolation=EXACT_BICUBIC, threads=1,
        )  # fmt: skip
