"""What this machine can read and write: tried, not looked up."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.hwaccel import hwdevices_available

from streamlight.errors import StreamlightError
from streamlight.media.codecs import CODECS_OF, HARDWARE_FAMILIES, MUXERS, SOFTWARE_ENCODERS
from streamlight.media.encode import EncodeSettings, encoder_exists, plan_encoder
from streamlight.media.frame import ColorSpec, Frame

DECODERS = (
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mjpeg", "prores", "dnxhd", "ffv1", "vc1", "wmv3",
    "png", "webp", "tiff",
)  # fmt: skip
"""What cameras, phones and archives write; libav knows hundreds more."""


@dataclass(frozen=True, slots=True)
class EncoderState:
    """One encoder: whether it really encodes here, at 8 and at 10 bit, and why not.

    Attributes:
        codec: Product's codec name.
        encoder: libavcodec's name.
        hardware: Hardware family, or None for software.
        works: Whether a trial at 8 bit succeeded.
        ten_bit: Whether it also keeps 10 bit.
        reason: Why it does not work; empty if it does.
    """

    codec: str
    encoder: str
    hardware: str | None
    works: bool
    ten_bit: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this machine can read and write.

    Attributes:
        encoders: Every encoder the product may use, tried.
        decoders: Common codecs, and whether this build decodes them.
        containers: Suffix to the video codecs it may hold.
        hardware_devices: Kinds of hardware acceleration this build of libav was made for; says nothing of this machine.
    """

    encoders: list[EncoderState]
    decoders: dict[str, bool]
    containers: dict[str, list[str]]
    hardware_devices: list[str]


def capabilities() -> Capabilities:
    """Try every encoder and look every decoder up. Takes about a second."""
    encoders = [_software(codec, name) for codec, name in SOFTWARE_ENCODERS.items()]
    for family in HARDWARE_FAMILIES:
        for codec in SOFTWARE_ENCODERS:
            if encoder_exists(f"{codec}_{family}"):
                encoders.append(_state(codec, f"{codec}_{family}", family))
    return Capabilities(
        encoders=encoders,
        decoders={name: _decodes(name) for name in DECODERS},
        containers={suffix: list(CODECS_OF[muxer]) for suffix, muxer in MUXERS.items()},
        hardware_devices=sorted(hwdevices_available()),
    )


def _software(codec: str, name: str) -> EncoderState:
    if not encoder_exists(name):
        return EncoderState(codec, name, None, False, False, "not in this build of PyAV")
    return _state(codec, name, None)


def _state(codec: str, name: str, family: str | None) -> EncoderState:
    reason = _trial(codec, family, 8)
    ten = not reason and not _trial(codec, family, 10)
    return EncoderState(codec, name, family, not reason, ten, reason)


def _trial(codec: str, family: str | None, depth: int) -> str:
    """Why the encoder does not take such frames; empty if it does."""
    color = ColorSpec(bit_depth=depth)
    planes = tuple(np.full((64 >> s, 64 >> s), 1 << (depth - 1), color.dtype) for s in (0, 1, 1))
    frame = Frame(planes, color, pts=0, time_base=Fraction(1, 25))
    settings = EncodeSettings(codec=codec, hardware=family or "off")  # type: ignore[arg-type]
    try:
        plan = plan_encoder(settings, frame, container="x.mov" if codec == "prores" else "x.mkv")
    except StreamlightError as error:
        text = str(error)
        return text[text.find("(") + 1 : text.rfind(")")].partition(": ")[2] or text
    if depth > 8 and any("bit" in loss for loss in plan.losses):
        return "; ".join(plan.losses)
    return ""


def _decodes(name: str) -> bool:
    try:
        return av.Codec(name, "r").is_decoder
    except ValueError:
        return False
