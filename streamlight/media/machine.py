"""What this machine can really do: encoders that open, decoders, hardware, containers. For ``streamlight doctor``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.hwaccel import hwdevices_available

from streamlight.media import codecs
from streamlight.media.encode import EncodeSettings, encoder_exists, plan_for, quiet_libav, try_encoder
from streamlight.media.frame import ColorSpec, Frame
from streamlight.media.hardware import NVDEC_DECODERS, opening_failure, try_decoder

_DECODERS = (
    "h264",
    "hevc",
    "av1",
    "vp9",
    "vp8",
    "mpeg2video",
    "mpeg4",
    "mjpeg",
    "prores",
    "ffv1",
    "dnxhd",
    "vc1",
    "vvc",
)


@dataclass(frozen=True, slots=True)
class EncoderCapability:
    """One encoder, tried with a real picture.

    Attributes:
        codec: Product's codec name.
        encoder: libavcodec's encoder name.
        hardware: Whether it runs on a device.
        opens: Whether it encoded a picture here.
        reason: Why it does not, else ``""``.
        pixel_formats: What it takes, by its own account.
        containers: Suffixes it goes into.
    """

    codec: str
    encoder: str
    hardware: bool
    opens: bool
    reason: str
    pixel_formats: tuple[str, ...]
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CardDecoder:
    """Decoding of one codec on a CUDA device (NVDEC), tried with a small clip.

    Attributes:
        codec: Product's codec name.
        works: Whether every picture came from the card, and was that of the software decoder.
        reason: Why not, else ``""``.
    """

    codec: str
    works: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """All of it.

    Attributes:
        encoders: Every encoder, tried.
        decoders: Codecs that can be read.
        missing_decoders: Codecs that this build cannot read.
        hardware_devices: Kinds of devices this build of FFmpeg was made for, not devices that are present.
        still_formats: Suffixes of still images that can be written.
        card_decoders: Decoding on the first CUDA device.
    """

    encoders: tuple[EncoderCapability, ...]
    decoders: tuple[str, ...]
    missing_decoders: tuple[str, ...]
    hardware_devices: tuple[str, ...]
    still_formats: tuple[str, ...]
    card_decoders: tuple[CardDecoder, ...] = ()

    @property
    def knows_cuda(self) -> bool:
        """Whether this build of FFmpeg was made for CUDA."""
        return "cuda" in self.hardware_devices

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def capabilities() -> Capabilities:
    """Try every encoder the product knows; takes about a second. Writes nothing and opens no file."""
    encoders = []
    for codec, software in codecs.SOFTWARE_ENCODERS.items():
        for encoder in (software, *(f"{codec}_{family}" for family in codecs.HARDWARE_FAMILIES)):
            if encoder == software or encoder_exists(encoder):
                encoders.append(_tried(codec, encoder))
    found = tuple(name for name in _DECODERS if _decodes(name))
    from streamlight.media.stills import STILL_FORMATS

    return Capabilities(
        encoders=tuple(encoders),
        decoders=found,
        missing_decoders=tuple(name for name in _DECODERS if name not in found),
        hardware_devices=tuple(hwdevices_available()),
        still_formats=tuple(suffix for suffix, form in STILL_FORMATS.items() if encoder_exists(form.encoder)),
        card_decoders=card_decoders(),
    )


def card_decoders(*, device: int = 0) -> tuple[CardDecoder, ...]:
    """Try each codec on a CUDA device; where the device itself does not open, one trial tells for all."""
    missing = opening_failure(device)
    tried = []
    for codec in NVDEC_DECODERS:
        reason = missing or try_decoder(codec, device=device)
        tried.append(CardDecoder(codec, reason is None, reason or ""))
    return tuple(tried)


def _tried(codec: str, encoder: str) -> EncoderCapability:
    containers = tuple(suffix for suffix, muxer in codecs.MUXERS.items() if codec in codecs.CODECS_OF[muxer])
    hardware = encoder not in codecs.SOFTWARE_ENCODERS.values()
    if not encoder_exists(encoder):
        return EncoderCapability(codec, encoder, hardware, False, "not in this build of FFmpeg", (), containers)
    with quiet_libav():
        plan = plan_for(encoder, codec, EncodeSettings(), _picture(), f"x{containers[0]}")
        reason = try_encoder(plan, picture=True)
        formats = tuple(fmt.name for fmt in av.Codec(encoder, "w").video_formats or ())
    return EncoderCapability(codec, encoder, hardware, reason is None, reason or "", formats, containers)


def _picture() -> Frame:
    planes = (np.zeros((256, 256), np.uint8), *(np.full((128, 128), 128, np.uint8) for _ in range(2)))
    return Frame(planes, ColorSpec(), pts=0, time_base=Fraction(1, 25))


def _decodes(name: str) -> bool:
    try:
        return bool(av.Codec(name, "r").is_decoder)
    except ValueError:
        return False
