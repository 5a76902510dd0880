"""Choosing an encoder and opening it: what is asked for, what this machine can do, what gets lost on the way."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import PurePath
from typing import Any

import av
import av.logging
from av.video.codeccontext import VideoCodecContext

from streamlight.errors import ConfigError, DeviceError, MediaError
from streamlight.media import codecs
from streamlight.media.frame import ColorSpec, Frame

FALLBACK_RATE = Fraction(30)
_GLOBAL_HEADER = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """What the user asks of the encoder.

    Attributes:
        codec: ``None`` for the container's default (`codecs.default_codec`).
        quality: On the encoder's own scale (`codecs.QUALITY`); ``None`` for its default.
        preset: Speed preset of the encoder (`codecs.PRESETS`); ``None`` for its default.
        hardware: ``"off"`` for software; ``"auto"`` for the first hardware family that really opens, else software;
            a family (``"nvenc"``, ``"qsv"``, …) to insist on it.
        threads: Encoder threads; 0 lets the encoder choose.
        gop: Longest distance of key frames, in frames.
    """

    codec: codecs.VideoCodec | None = None
    quality: int | None = None
    preset: str | None = None
    hardware: str = "off"
    threads: int = 0
    gop: int = 250

    def __post_init__(self) -> None:
        if self.hardware not in ("auto", "off", *codecs.HARDWARE_FAMILIES):
            known = ", ".join(("auto", "off", *codecs.HARDWARE_FAMILIES))
            raise ConfigError(f"hardware: unknown value {self.hardware!r}; use one of {known}")
        if self.threads < 0 or self.gop < 1:
            raise ConfigError(f"threads must be >= 0 and gop >= 1, got threads {self.threads}, gop {self.gop}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPlan:
    """Everything that decides an encoder's output: the same plan gives the same bits for the same frames.

    A job makes one plan and opens a fresh encoder from it for every segment; a resumed job takes it from its journal.

    Attributes:
        codec: Product's codec name.
        encoder: libavcodec's encoder name.
        width, height: Coded size; larger than the frames by one where the codec needs even numbers.
        source_width, source_height: Size of the frames.
        source_format: Planar pixel format of the frames as they come.
        source_depth: Their bits per sample.
        source_range: Their range, ``"limited"`` or ``"full"``.
        pix_fmt: What the encoder gets.
        time_base: Of the frames; the encoder runs in it.
        rate: Nominal frames per second, for rate control only; never used for time.
        sample_aspect: Pixel aspect ratio; 0 when unknown.
        tags: H.273 code points written to the stream: (matrix, range, primaries, transfer).
        matrix: YCbCr matrix of the frames, for conversions.
        full_range: Whether the encoder gets full-range samples.
        options: libavcodec options.
        threads: Encoder threads, 0 = its choice.
        gop: Longest distance of key frames.
        losses: What the output cannot keep of the picture, in words.
        fallbacks: Encoders that were tried and did not open, each with the reason.
    """

    codec: str
    encoder: str
    width: int
    height: int
    source_width: int
    source_height: int
    source_format: str
    source_depth: int
    source_range: str
    pix_fmt: str
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction
    tags: tuple[int, int, int, int]
    matrix: str
    full_range: bool
    options: tuple[tuple[str, str], ...]
    threads: int
    gop: int
    losses: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for a journal; fractions as ``"n/d"``."""
        return {
            key: str(value) if isinstance(value, Fraction) else _plain(value)
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EncoderPlan:
        """The inverse of `to_json`."""
        values = dict(data)
        for key in ("time_base", "rate", "sample_aspect"):
            values[key] = Fraction(values[key])
        values["options"] = tuple((str(name), str(value)) for name, value in values["options"])
        for key in ("tags", "losses", "fallbacks"):
            values[key] = tuple(values[key])
        return cls(**values)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def plan_encoder(
    settings: EncodeSettings,
    frame: Frame,
    *,
    container: str | PurePath,
    sample_aspect: Fraction | None = None,
    rate: Fraction | None = None,
) -> EncoderPlan:
    """Choose encoder, pixel format and options for frames like this one.

    Args:
        settings: What the user asks for.
        frame: Any frame of the job: its size, colour and time base hold for all.
        container: Destination path (or a bare suffix such as ``"x.mkv"``); decides what is possible.
        sample_aspect: Pixel aspect ratio, ``None`` when unknown.
        rate: Nominal frame rate for rate control; ``None`` when unknown.

    Raises:
        ConfigError: The codec does not go into the container, or a number is outside the encoder's scale.
        DeviceError: A hardware encoder was insisted on and does not open.
        MediaError: The software encoder does not open for these frames.
    """
    codec = settings.codec or codecs.default_codec(container)
    codecs.check_codec(codec, container)
    fallbacks: list[str] = []
    for encoder in _candidates(codec, settings.hardware):
        plan = plan_for(encoder, codec, settings, frame, container, sample_aspect, rate)
        reason = try_encoder(plan)
        if reason is None:
            return dataclasses.replace(plan, fallbacks=tuple(fallbacks))
        fallbacks.append(f"{encoder}: {reason}")
    if settings.hardware not in ("auto", "off"):
        raise DeviceError(
            f"hardware {settings.hardware!r} cannot encode {codec} here ({'; '.join(fallbacks) or 'no such encoder'}); "
            "use --hardware auto or off, and see `streamlight doctor`"
        )
    raise MediaError(
        f"no {codec} encoder opens for {frame.width}x{frame.height} {plan.pix_fmt} ({'; '.join(fallbacks)}); "
        "try another --codec, and see `streamlight doctor`"
    )


def _candidates(codec: str, hardware: str) -> Iterator[str]:
    families = codecs.HARDWARE_FAMILIES if hardware == "auto" else () if hardware == "off" else (hardware,)
    for family in families:
        name = f"{codec}_{family}"
        if encoder_exists(name):
            yield name
    if hardware in ("auto", "off"):
        yield codecs.SOFTWARE_ENCODERS[codec]


@cache
def encoder_exists(name: str) -> bool:
    """Whether this build of libavcodec knows the encoder; says nothing about whether it opens."""
    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:
        return False


def plan_for(
    encoder: str,
    codec: str,
    settings: EncodeSettings,
    frame: Frame,
    container: str | PurePath,
    sample_aspect: Fraction | None = None,
    rate: Fraction | None = None,
) -> EncoderPlan:
    """The plan for one given encoder, whether it opens here or not. Arguments as for `plan_encoder`."""
    color = frame.color
    available = _formats(encoder)
    pix_fmt, layout, _, losses = codecs.choose_pixel_format(available, color.chroma, color.bit_depth)
    width, height = frame.width, frame.height
    if encoder not in ("ffv1", "libvpx-vp9"):
        shift_x, shift_y = {"420": (1, 1), "422": (1, 0), "440": (0, 1)}.get(layout, (0, 0))
        if codecs.family_of(encoder) in codecs.HARDWARE_FAMILIES or encoder == "libsvtav1":
            shift_x = shift_y = 1
        width, height = (width + shift_x) >> shift_x << shift_x, (height + shift_y) >> shift_y << shift_y
    if (width, height) != (frame.width, frame.height):
        losses.append(
            f"{frame.width}x{frame.height} grew to {width}x{height} by repeating the last row or column: "
            f"{encoder} needs even sizes"
        )
    bframes = codecs.muxer_for(container) != "avi"
    options = codecs.encoder_options(encoder, quality=settings.quality, preset=settings.preset, bframes=bframes)
    tags, full_range = color.tags, color.range == "full"
    if encoder == "prores_ks":
        if full_range:
            losses.append("full-range samples become limited range: ProRes knows no other")
        tags, full_range = (tags[0], 1 if tags[1] else 0, tags[2], tags[3]), False
        if settings.quality is None and layout == "444":
            options["profile"] = "4"
    return EncoderPlan(
        codec=codec,
        encoder=encoder,
        width=width,
        height=height,
        source_width=frame.width,
        source_height=frame.height,
        source_format=codecs.pixel_format(color.chroma, color.bit_depth),
        source_depth=color.bit_depth,
        source_range=color.range,
        pix_fmt=pix_fmt,
        time_base=frame.time_base,
        rate=rate or FALLBACK_RATE,
        sample_aspect=sample_aspect or Fraction(0),
        tags=tags,
        matrix=color.matrix,
        full_range=full_range,
        options=tuple(sorted(options.items())),
        threads=settings.threads,
        gop=settings.gop,
        losses=tuple(losses),
    )


@cache
def _formats(encoder: str) -> list[str]:
    listed = [fmt.name for fmt in av.Codec(encoder, "w").video_formats or ()]
    if encoder.startswith("h264_") or encoder == "libx264":
        # Hardly any hardware decoder plays monochrome H.264, and decoders give neutral chroma anyway.
        listed = [name for name in listed if not name.startswith("gray")]
    # V4L2 memory-to-memory drivers list nothing before they are opened; NV12 and planar are what they all know.
    return listed or ["nv12", "yuv420p"]


def configure(context: VideoCodecContext, plan: EncoderPlan) -> None:
    """Set an unopened encoder context up as the plan says."""
    context.width, context.height = plan.width, plan.height
    context.pix_fmt = plan.pix_fmt
    context.time_base = plan.time_base
    context.framerate = plan.rate
    context.gop_size = plan.gop
    if plan.sample_aspect > 0:
        context.sample_aspect_ratio = plan.sample_aspect
    context.colorspace, context.color_range, context.color_primaries, context.color_trc = plan.tags
    if plan.encoder in ("libx264", "libx265", "libvpx-vp9", "libsvtav1") and plan.full_range:
        context.color_range = 2
    # Closed GOPs are libavcodec's default flag; x265 is told separately.
    context.flags |= _GLOBAL_HEADER
    if plan.threads:
        context.thread_count = plan.threads
    if plan.codec == "hevc":
        context.codec_tag = "hvc1"
    context.options = dict(plan.options) | _reproducible(plan)
    if plan.encoder == "libx265" and min(plan.width, plan.height) < 64:
        # Its macroblock tree writes beyond its arrays on very small pictures and takes the process with it.
        context.options["x265-params"] += ":no-cutree=1"


def _reproducible(plan: EncoderPlan) -> dict[str, str]:
    """x264's AVX-512 code reads uninitialised memory (macroblock tree) unless a row is whole groups of 8 macroblocks.

    The result is a good picture, but another one in every run; resuming must give the same bits.
    """
    if plan.encoder == "libx264" and plan.width % 128 and _has_avx512():
        return {"x264-params": "asm=avx2"}
    return {}


@cache
def _has_avx512() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return {"avx512f", "avx2"} <= set(flags.split())


def try_encoder(plan: EncoderPlan, *, picture: bool = False) -> str | None:
    """Open the plan's encoder; hardware must also encode a picture of the plan's size, for each card has its limits.

    Names in libavcodec's list say nothing: NVENC is there without a driver, QSV without a GPU.

    Args:
        plan: What to open.
        picture: Let software encode a picture too.

    Returns:
        ``None`` when a packet came out, else the reason it does not work.
    """
    try:
        with quiet_libav():
            context: Any = av.CodecContext.create(plan.encoder, "w")
            configure(context, plan)
            context.open()
            if plan.encoder in codecs.SOFTWARE_ENCODERS.values() and not picture:
                return None  # software that opens works
            blank = av.VideoFrame(plan.width, plan.height, plan.pix_fmt)
            blank.pts, blank.time_base = 0, plan.time_base
            packets = [*context.encode(blank), *context.encode(None)]
    except (av.FFmpegError, ValueError, OSError) as error:
        text = str(getattr(error, "strerror", None) or error).split(";")[0]
        hint = _NEEDS.get(codecs.family_of(plan.encoder))
        return f"{text} (it needs {hint})" if hint else text
    return None if packets else "it opened but gave no packet"


_NEEDS = {
    "nvenc": "an NVIDIA GPU with an encoder, and its driver; data-centre cards such as A100, H100 and H200 have none",
    "qsv": "an Intel GPU, and the oneVPL runtime",
    "amf": "an AMD GPU, and the AMF runtime",
    "vaapi": "a GPU with a VA-API driver",
    "v4l2m2m": "a V4L2 encoder device",
    "videotoolbox": "macOS",
}


@contextmanager
def quiet_libav() -> Iterator[None]:
    """Keep libav and SVT-AV1 from writing to stderr while encoders are tried or run."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 otherwise prints its banner past every log callback
    before = av.logging.get_level()
    av.logging.set_level(None)
    try:
        yield
    finally:
        av.logging.set_level(before)


def same_shape(plan: EncoderPlan, color: ColorSpec, width: int, height: int) -> bool:
    """Whether frames of this colour and size are what the plan was made for."""
    return (width, height, codecs.pixel_format(color.chroma, color.bit_depth)) == (
        plan.source_width,
        plan.source_height,
        plan.source_format,
    )
