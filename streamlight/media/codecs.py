"""What each codec and container can hold, and how the product's settings map to each encoder's own options.

Tables and pure functions; nothing here opens a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from streamlight.errors import ConfigError
from streamlight.media.frame import ChromaLayout

VideoCodec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"]

SOFTWARE_ENCODERS: dict[str, str] = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "ffv1": "ffv1",
    "prores": "prores_ks",
}

HARDWARE_FAMILIES: tuple[str, ...] = ("nvenc", "qsv", "amf", "videotoolbox", "vaapi", "v4l2m2m")
"""In the order they are tried: dedicated GPUs first, memory-to-memory drivers last."""

MUXERS: dict[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
}

CODECS_OF: dict[str, tuple[str, ...]] = {
    "mp4": ("h264", "hevc", "av1", "vp9", "ffv1"),
    "mov": ("h264", "hevc", "prores"),
    "matroska": ("h264", "hevc", "av1", "vp9", "ffv1", "prores"),
    "webm": ("vp9", "av1"),
    "avi": ("h264", "ffv1"),
    "mpegts": ("h264", "hevc"),
}
"""Video codecs a container holds such that common readers find them again. The first one is not always the default."""


CAPTION_ENCODERS = ("libx264", "libx265", "h264_nvenc", "hevc_nvenc", "h264_qsv", "h264_vaapi", "hevc_vaapi")
"""Encoders that write A/53 closed captions handed to them with the frames."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The scale of an encoder's quality number: ``default`` within ``low..high``; smaller is better unless noted."""

    default: int
    low: int
    high: int


QUALITY: dict[str, Quality] = {
    "libx264": Quality(21, 0, 51),
    "libx265": Quality(24, 0, 51),
    "libsvtav1": Quality(30, 0, 63),
    "libvpx-vp9": Quality(31, 0, 63),
    "prores_ks": Quality(3, 0, 5),  # a profile: proxy, lt, standard, hq, 4444, 4444xq; larger is better
    "nvenc": Quality(23, 0, 51),
    "qsv": Quality(23, 1, 51),
    "amf": Quality(23, 0, 51),
    "vaapi": Quality(23, 1, 52),
    "videotoolbox": Quality(60, 1, 100),  # larger is better
}
"""Quality per encoder (or hardware family), on the encoder's own scale. ffv1 (lossless) and V4L2 have none."""

PRESETS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "libx264": (
        "veryfast",
        ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
    ),
    "libx265": (
        "fast",
        ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
    ),
    "libsvtav1": ("8", tuple(str(n) for n in range(14))),
    "libvpx-vp9": ("5", tuple(str(n) for n in range(9))),  # cpu-used
    "nvenc": ("p4", tuple(f"p{n}" for n in range(1, 8))),
    "qsv": ("medium", ("veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")),
    "amf": (None, ("speed", "balanced", "quality")),
}
"""Default preset and allowed presets per encoder (or hardware family); an encoder not listed has none."""


def muxer_for(path: str | PurePath) -> str:
    """The libavformat muxer for a destination's suffix.

    Raises:
        ConfigError: The suffix names no video container we write.
    """
    suffix = PurePath(path).suffix.lower()
    try:
        return MUXERS[suffix]
    except KeyError:
        known = ", ".join(name[1:] for name in MUXERS)
        raise ConfigError(
            f"{PurePath(path).name}: the suffix {suffix or '(none)'!r} names no container; use one of {known}"
        ) from None


def default_codec(path: str | PurePath) -> VideoCodec:
    """The codec used when none was asked for: VP9 for webm, H.264 for everything else."""
    return "vp9" if muxer_for(path) == "webm" else "h264"


def check_codec(codec: str, path: str | PurePath) -> None:
    """Refuse a codec that the destination's container cannot hold.

    Raises:
        ConfigError: Unknown codec, or a combination that does not work; the message says what is possible.
    """
    muxer = muxer_for(path)
    suffix = PurePath(path).suffix.lower()
    if codec not in SOFTWARE_ENCODERS:
        raise ConfigError(f"unknown video codec {codec!r}; known are {', '.join(SOFTWARE_ENCODERS)}")
    if codec not in CODECS_OF[muxer]:
        homes = [name for name, kind in MUXERS.items() if codec in CODECS_OF[kind] and name not in (".m4v", ".m2ts")]
        raise ConfigError(
            f"{PurePath(path).name}: {suffix} cannot hold {codec}; "
            f"{suffix} takes {', '.join(CODECS_OF[muxer])}, and {codec} goes into {', '.join(homes)}"
        )


def family_of(encoder: str) -> str:
    """The key of `QUALITY` and `PRESETS` for an encoder: its own name, or its hardware family."""
    suffix = encoder.rpartition("_")[2]
    return suffix if suffix in HARDWARE_FAMILIES else encoder


def encoder_options(encoder: str, *, quality: int | None, preset: str | None, bframes: bool) -> dict[str, str]:
    """Options of libavcodec for an encoder for our quality and preset numbers.

    Args:
        encoder: libavcodec's name.
        quality: On the encoder's own scale, see `QUALITY`; ``None`` for the default.
        preset: See `PRESETS`; ``None`` for the default.
        bframes: Whether frames may be reordered (AVI has no presentation times, so not there).

    Raises:
        ConfigError: The number or the preset is outside what the encoder knows.
    """
    family = family_of(encoder)
    level = _checked_quality(encoder, family, quality)
    chosen = _checked_preset(encoder, family, preset)
    options = _RULES[family](level, chosen) if family in _RULES else {}
    if not bframes and family in ("libx264", "libx265", "nvenc", "qsv", "amf", "vaapi"):
        options["bf"] = "0"
    return options


def _checked_quality(encoder: str, family: str, quality: int | None) -> str:
    scale = QUALITY.get(family)
    if scale is None:
        if quality is not None:
            why = "is lossless" if encoder == "ffv1" else "has no quality scale"
            raise ConfigError(f"quality: {encoder} {why}; leave --quality out")
        return ""
    value = scale.default if quality is None else quality
    if not scale.low <= value <= scale.high:
        raise ConfigError(f"quality: {encoder} takes {scale.low} to {scale.high}, got {quality}")
    return str(value)


def _checked_preset(encoder: str, family: str, preset: str | None) -> str:
    if family not in PRESETS:
        if preset is not None:
            raise ConfigError(f"encoder preset: {encoder} has none; leave --encoder-preset out")
        return ""
    default, allowed = PRESETS[family]
    if preset is not None and preset not in allowed:
        raise ConfigError(f"encoder preset: {encoder} takes {', '.join(allowed)}; got {preset!r}")
    return preset or default or ""


_RULES = {
    "libx264": lambda q, p: {"preset": p, "crf": q, "a53cc": "1"},
    # x265's own log goes straight to stderr; closed GOPs are not its default.
    "libx265": lambda q, p: {"preset": p, "crf": q, "a53cc": "1", "x265-params": "log-level=none:open-gop=0"},
    "libsvtav1": lambda q, p: {"preset": p, "crf": q},
    "libvpx-vp9": lambda q, p: {"crf": q, "b": "0", "cpu-used": p, "deadline": "good", "row-mt": "1"},
    "ffv1": lambda q, p: {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"},
    "prores_ks": lambda q, p: {"profile": q, "vendor": "apl0"},
    "nvenc": lambda q, p: {"preset": p, "rc": "vbr", "cq": q, "b": "0"},
    "qsv": lambda q, p: {"preset": p, "global_quality": q},
    "amf": lambda q, p: {"rc": "cqp", "qp_i": q, "qp_p": q} | ({"quality": p} if p else {}),
    "vaapi": lambda q, p: {"rc_mode": "CQP", "qp": q},
    "videotoolbox": lambda q, p: {"q": q},
}

_LAYOUT_ORDER: dict[ChromaLayout, tuple[ChromaLayout, ...]] = {
    "400": ("400", "420", "422", "444"),
    "420": ("420", "422", "440", "444"),
    "422": ("422", "444", "420"),
    "440": ("440", "444", "420"),
    "444": ("444", "422", "440", "420"),
    "411": ("411", "422", "444", "420"),
    "410": ("410", "420", "422", "444"),
}
"""For every layout: itself, then layouts with at least as many chroma samples, then those with fewer."""

_LOSSY: set[tuple[str, str]] = {
    ("422", "420"),
    ("440", "420"),
    ("444", "422"),
    ("444", "440"),
    ("444", "420"),
    ("411", "420"),
}


def pixel_format(chroma: str, bit_depth: int) -> str:
    """FFmpeg's name of a planar format: ``("420", 10)`` gives ``"yuv420p10le"``, ``("400", 8)`` gives ``"gray"``."""
    depth = "" if bit_depth == 8 else f"{bit_depth}le"
    if chroma == "400":
        return f"gray{depth}"
    return f"yuv{chroma}p{depth}"


def choose_pixel_format(available: list[str], chroma: ChromaLayout, bit_depth: int) -> tuple[str, str, int, list[str]]:
    """The encoder's format that loses least: first chroma samples and bits, then the least excess.

    Args:
        available: Pixel formats the encoder takes; semi-planar ones (hardware) are understood too.
        chroma: Layout of the frames.
        bit_depth: Their bit depth.

    Returns:
        ``(format name, its chroma layout, its bit depth, losses in words)``.

    Raises:
        ConfigError: The encoder takes no YUV or grey format at all.
    """
    best: tuple[tuple[int, int, int, int, int], str, str, int] | None = None
    for layout_rank, layout in enumerate(_LAYOUT_ORDER[chroma]):
        for depth in range(8, 17):
            for name in (pixel_format(layout, depth), _SEMI_PLANAR.get((layout, depth), "")):
                if name not in available:
                    continue
                key = (
                    int((chroma, layout) in _LOSSY),
                    max(0, bit_depth - depth),
                    layout_rank,
                    max(0, depth - bit_depth),
                    int(name in _SEMI_PLANAR.values()),
                )
                if best is None or key < best[0]:
                    best = (key, name, layout, depth)
    if best is None:
        raise ConfigError("the encoder takes no YUV or grey pixel format")
    _, name, kept, depth = best
    losses = []
    if (chroma, kept) in _LOSSY:
        losses.append(f"chroma {_colons(chroma)} reduced to {_colons(kept)}")
    if depth < bit_depth:
        losses.append(f"{bit_depth} bit reduced to {depth} bit")
    return name, kept, depth, losses


_SEMI_PLANAR: dict[tuple[str, int], str] = {
    ("420", 8): "nv12",
    ("422", 8): "nv16",
    ("420", 10): "p010le",
    ("422", 10): "p210le",
}


def _colons(layout: str) -> str:
    return ":".join(layout)
