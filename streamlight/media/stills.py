"""Still images as output: one file, or one file per frame in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from streamlight.errors import ConfigError, MediaError
from streamlight.media import stillmeta
from streamlight.media.codecs import pixel_format
from streamlight.media.destination import check_destination, disk_errors, partial_path, publish
from streamlight.media.frame import ColorSpec, Frame
from streamlight.media.orientation import turn_upright
from streamlight.media.packer import plane_view
from streamlight.media.probing import SourceInfo

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP
_BAND = 256  # rows converted at a time, so that a large photograph never lies in memory as floating point

_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
    "bt2020c": (0.2627, 0.0593),
}


@dataclass(frozen=True, slots=True)
class StillFormat:
    """What an image format holds: pixel formats for (grey, grey + alpha, colour, colour + alpha) at 8 and 16 bit."""

    encoder: str
    eight: tuple[str | None, str | None, str | None, str | None]
    sixteen: tuple[str | None, str | None, str | None, str | None] = (None, None, None, None)


_PNG = StillFormat("png", ("gray", "ya8", "rgb24", "rgba"), ("gray16be", "ya16be", "rgb48be", "rgba64be"))
_TIFF = StillFormat("tiff", ("gray", "ya8", "rgb24", "rgba"), ("gray16le", "ya16le", "rgb48le", "rgba64le"))
_JPEG = StillFormat("mjpeg", (None, None, "rgb24", None))
_BMP = StillFormat("bmp", ("gray", None, "bgr24", "bgra"))
_WEBP = StillFormat("libwebp", (None, None, "bgra", "bgra"))
STILL_FORMATS = {
    ".png": _PNG, ".tif": _TIFF, ".tiff": _TIFF, ".jpg": _JPEG, ".jpeg": _JPEG, ".bmp": _BMP, ".webp": _WEBP,
}  # fmt: skip


@dataclass(slots=True)
class StillReport:
    """What an image file holds.

    Attributes:
        path: The file.
        pix_fmt: Its pixel format.
        losses: What it cannot keep, in words.
    """

    path: Path
    pix_fmt: str
    losses: list[str] = field(default_factory=list)


def still_format(path: str | PurePath) -> StillFormat:
    """The image format for a destination's suffix.

    Raises:
        ConfigError: The suffix names no image format we write.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix not in STILL_FORMATS:
        known = ", ".join(name[1:] for name in STILL_FORMATS)
        raise ConfigError(
            f"{PurePath(path).name}: the suffix {suffix or '(none)'!r} names no image format; use {known}"
        )
    return STILL_FORMATS[suffix]


def write_still(
    frame: Frame,
    destination: str | os.PathLike[str],
    *,
    info: SourceInfo | None = None,
    source: str | os.PathLike[str] | None = None,
    quality: int | None = None,
    overwrite: bool = False,
) -> StillReport:
    """Write one frame as an image file; it appears under its name when it is complete.

    More than 8 bits become 16 in png and tiff. Alpha comes from the source's own picture, untouched. ICC profile and
    EXIF go along in jpg and png, with the orientation set to upright, because frames of images are upright.

    Args:
        frame: Upright picture.
        destination: File; the suffix decides the format (`STILL_FORMATS`).
        info: Of the source, for its EXIF orientation.
        source: The source file, for its profile and EXIF block and to refuse writing over it.
        quality: jpg: quantiser 1 (best) to 31, default 2. webp: 0 to 100 (best), default 90. Others are lossless.
        overwrite: Whether an existing file is replaced.

    Raises:
        ConfigError: Unknown suffix, or a quality outside the scale.
        MediaError: The file cannot be written.
    """
    target = Path(destination)
    form = still_format(target)
    options = _quality_options(form, quality)
    check_destination(source, target, overwrite=overwrite)
    report = StillReport(target, "")
    picture = _picture(frame, form, 1 if info is None else info.orientation, report)
    report.pix_fmt = picture.format.name
    data = _encode(picture, form, options)
    if source is not None:
        data = _with_metadata(data, Path(source), form, report)
    partial = partial_path(target)
    try:
        with disk_errors(target), open(partial, "wb") as file:
            file.write(data)
        publish(partial, target, overwrite=overwrite)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return report


class ImageSink:
    """A folder of numbered images, one per frame: ``<stem>_000001.png`` and so on.

    Args:
        folder: Made if it is missing.
        suffix: Image format.
        stem: Start of every name.
        quality, overwrite: See `write_still`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        suffix: str = ".png",
        stem: str = "frame",
        quality: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder)
        still_format(f"x{suffix}")
        self._suffix, self._stem, self._quality, self._overwrite = suffix, stem, quality, overwrite
        with disk_errors(self.folder / "x"):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.written = 0
        self.losses: list[str] = []

    def write(self, frame: Frame) -> Path:
        """Write the next image, numbered from the frame's index (from 1)."""
        path = self.folder / f"{self._stem}_{frame.index + 1:06d}{self._suffix}"
        report = write_still(frame, path, quality=self._quality, overwrite=self._overwrite)
        self.written += 1
        self.losses.extend(loss for loss in report.losses if loss not in self.losses)
        return path


def _quality_options(form: StillFormat, quality: int | None) -> dict[str, str]:
    scales = {"mjpeg": (1, 31, 2), "libwebp": (0, 100, 90)}
    if form.encoder not in scales:
        if quality is not None:
            raise ConfigError(f"quality: {form.encoder} is lossless; leave --quality out")
        return {}
    low, high, default = scales[form.encoder]
    value = default if quality is None else quality
    if not low <= value <= high:
        raise ConfigError(f"quality: {form.encoder} takes {low} to {high}, got {quality}")
    return {"qmin": str(value), "qmax": str(value)} if form.encoder == "mjpeg" else {"quality": str(value)}


def _picture(frame: Frame, form: StillFormat, orientation: int, report: StillReport) -> av.VideoFrame:
    """The frame in a pixel format of the image format."""
    alpha = _alpha(frame, orientation)
    grey = frame.color.chroma == "400"
    deep = source_depth(frame) > 8
    if form is _JPEG and alpha is None and _is_jpeg_native(frame.color):
        return _planar(frame, pixel_format(frame.color.chroma, 8).replace("yuv", "yuvj"))
    table = form.sixteen if deep and any(form.sixteen) else form.eight
    if deep and table is form.eight:
        report.losses.append(f"{source_depth(frame)} bit reduced to 8 bit: {report.path.suffix} holds no more")
    if alpha is not None and table[3] is None:
        report.losses.append(f"alpha channel: {report.path.suffix} holds none")
        alpha = None
    name = table[2 * (not grey) + (alpha is not None)] or table[2 + (alpha is not None)]
    bits = 16 if table is form.sixteen else 8
    channels = to_rgb(frame, bits) if table.index(name) >= 2 else _grey(frame, bits)
    if alpha is not None:
        channels = np.dstack([channels, _rescaled(alpha, bits)])
    elif name == "bgra":
        channels = np.dstack([channels, np.full(channels.shape[:2], (1 << bits) - 1, channels.dtype)])
    if name is not None and name.startswith("bgr"):
        channels = channels[:, :, [2, 1, 0, *range(3, channels.shape[2])]]
    picture = _packed(channels, str(name), bits)
    picture.color_range = ColorRange.JPEG
    if form is _JPEG:
        layout = frame.color.chroma if frame.color.chroma in ("420", "422", "444") else "444"
        picture = picture.reformat(
            format=f"yuvj{layout}p", dst_colorspace=5, dst_color_range=ColorRange.JPEG, interpolation=_EXACT
        )
    return picture


def source_depth(frame: Frame) -> int:
    """Bits per sample the source had: RGB comes with two more in the planes, so that the way back is exact."""
    if frame.origin is not None:
        return max((int(c.bits) for c in frame.origin.format.components if not c.is_alpha), default=8)
    return frame.color.bit_depth


def _is_jpeg_native(color: ColorSpec) -> bool:
    """Whether the planes are what a JPEG file holds: they go in without a detour over RGB."""
    layout = color.chroma in ("420", "422", "444")
    return layout and color.bit_depth == 8 and color.range == "full" and color.matrix in ("bt470bg", "smpte170m")


def _planar(frame: Frame, name: str) -> av.VideoFrame:
    picture = av.VideoFrame(frame.width, frame.height, name)
    for target, plane in zip(picture.planes, frame.planes, strict=True):
        plane_view(target, plane.dtype)[:] = plane
    picture.color_range = ColorRange.JPEG if frame.color.range == "full" else ColorRange.MPEG
    return picture


def to_rgb(frame: Frame, bits: int) -> np.ndarray:
    """RGB samples of a frame, computed with its own matrix and range and rounded to nearest.

    Args:
        frame: Any colour; subsampled chroma is interpolated by swscale, missing chroma is neutral.
        bits: 8 or 16 per sample.

    Returns:
        ``(H, W, 3)`` uint8 or uint16, full range.
    """
    color = frame.color
    planes = frame.planes
    if color.chroma not in ("400", "444"):
        wide = _planar(frame, pixel_format(color.chroma, color.bit_depth)).reformat(
            format=pixel_format("444", color.bit_depth),
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        )
        planes = tuple(plane_view(plane, color.dtype) for plane in wide.planes)
    red_weight, blue_weight = _WEIGHTS.get(color.matrix, _WEIGHTS["bt709"])
    (black, span), (middle, swing) = color.luma_scale(), color.chroma_scale()
    top = (1 << bits) - 1
    result = np.empty((frame.height, frame.width, 3), np.uint8 if bits == 8 else np.uint16)
    for row in range(0, frame.height, _BAND):
        rows = slice(row, row + _BAND)
        luma = (planes[0][rows].astype(np.float32) - black) / span
        blue = red = luma
        if len(planes) == 3:
            blue = luma + (planes[1][rows].astype(np.float32) - middle) * ((2.0 - 2.0 * blue_weight) / swing)
            red = luma + (planes[2][rows].astype(np.float32) - middle) * ((2.0 - 2.0 * red_weight) / swing)
        green = (luma - red_weight * red - blue_weight * blue) / (1.0 - red_weight - blue_weight)
        for index, channel in enumerate((red, green, blue)):
            result[rows, :, index] = np.clip(np.rint(channel * top), 0, top)
    return result


def _grey(frame: Frame, bits: int) -> np.ndarray:
    black, span = frame.color.luma_scale()
    top = (1 << bits) - 1
    scaled = np.clip(np.rint((frame.planes[0].astype(np.float32) - black) * (top / span)), 0, top)
    return scaled.astype(np.uint8 if bits == 8 else np.uint16)[:, :, None]


def _alpha(frame: Frame, orientation: int) -> np.ndarray | None:
    """The source's alpha channel, upright, 16 bit full scale; ``None`` when it has none (or another size)."""
    origin = frame.origin
    if origin is None or (not any(c.is_alpha for c in origin.format.components) and origin.format.name != "pal8"):
        return None
    deep = origin.reformat(format="rgba64le", interpolation=_EXACT)
    samples = np.frombuffer(deep.planes[0], "<u2").reshape(deep.height, -1)[:, : 4 * deep.width]
    alpha = turn_upright(samples[:, 3::4], orientation)
    if alpha.shape != (frame.height, frame.width) or (origin.format.name == "pal8" and (alpha == 0xFFFF).all()):
        return None
    return alpha


def _rescaled(alpha: np.ndarray, bits: int) -> np.ndarray:
    return alpha if bits == 16 else ((alpha.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _packed(channels: np.ndarray, name: str, bits: int) -> av.VideoFrame:
    """An ``av`` picture of one packed plane from ``(H, W, C)`` samples."""
    height, width, count = channels.shape
    picture = av.VideoFrame(width, height, name)
    target = picture.planes[0]
    kind = np.dtype(np.uint8) if bits == 8 else np.dtype(">u2" if name.endswith("be") else "<u2")
    flat: Any = np.frombuffer(target, np.uint8)  # type: ignore[call-overload]
    rows = flat[: target.line_size * height].reshape(height, target.line_size)
    samples = np.ascontiguousarray(channels, dtype=kind).view(np.uint8).reshape(height, -1)
    rows[:, : width * count * kind.itemsize] = samples
    return picture


def _encode(picture: av.VideoFrame, form: StillFormat, options: dict[str, str]) -> bytes:
    context: Any = av.CodecContext.create(form.encoder, "w")
    context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
    context.time_base = Fraction(1, 25)
    context.color_range = ColorRange.JPEG
    context.options = options
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    try:
        packets = [*context.encode(picture), *context.encode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{form.encoder} cannot encode {picture.width}x{picture.height}: {error}") from error
    return b"".join(bytes(packet) for packet in packets)


def _with_metadata(data: bytes, source: Path, form: StillFormat, report: StillReport) -> bytes:
    profile, exif = stillmeta.icc_profile(source), stillmeta.exif_block(source)
    for block, what, insert in ((profile, "colour profile", stillmeta.add_icc), (exif, "EXIF", stillmeta.add_exif)):
        if block:
            changed = insert(data, block, form.encoder)
            if changed is None:
                report.losses.append(f"{what}: not written to {report.path.suffix}")
            else:
                data = changed
    return data
