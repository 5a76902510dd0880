"""Frames through a real encoder and back, in memory: what compression does to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av

from streamlight.errors import MediaError
from streamlight.media.codecs import SOFTWARE_ENCODERS
from streamlight.media.color import pixel_layout
from streamlight.media.encode import EncodeSettings, configure, plan_for, quiet_libav
from streamlight.media.frame import Frame
from streamlight.media.packer import FramePacker
from streamlight.media.planes import view_planes

SMALLEST = 64
"""Shortest side that every encoder takes as it is; pad smaller pictures."""

_DECODERS = {"h264": "h264", "hevc": "hevc"}


@dataclass(frozen=True, slots=True)
class Recoded:
    """What came back from the decoder.

    Attributes:
        frames: As many as went in, in order, with their times; planes are copies.
        sizes: Bytes of each packet, in coding order.
    """

    frames: list[Frame]
    sizes: list[int]


def recode(frames: Sequence[Frame], *, settings: EncodeSettings, rate: Fraction = Fraction(25)) -> Recoded:
    """Encode frames with a software encoder, decode the packets, return the pictures.

    Args:
        frames: At least one; all of one size and colour, pts increasing. Sides are even where chroma is subsampled, and
            at least `SMALLEST`.
        settings: Codec (``"h264"`` or ``"hevc"``), quality, preset, threads. One thread gives the same bits everywhere.
        rate: Nominal frames per second; the rate control looks at it.

    Raises:
        MediaError: No frames, a size the encoder does not take, or the encoder or decoder fails.
        ConfigError: Quality or preset is outside the encoder's scale.
    """
    if not frames:
        raise MediaError("there is no frame to encode")
    codec = settings.codec or "h264"
    if codec not in _DECODERS:
        raise MediaError(f"pictures are recoded with {' or '.join(_DECODERS)}, not {codec}")
    plan = plan_for(SOFTWARE_ENCODERS[codec], codec, settings, frames[0], "x.mkv", rate=rate)
    if (plan.width, plan.height) != (frames[0].width, frames[0].height) or min(plan.width, plan.height) < SMALLEST:
        raise MediaError(
            f"{frames[0].width}x{frames[0].height} cannot be recoded as it is: "
            f"pad it to even sides of at least {SMALLEST}"
        )
    packer = FramePacker(plan)
    try:
        with quiet_libav():
            encoder: Any = av.CodecContext.create(plan.encoder, "w")
            configure(encoder, plan)
            packets = [packet for frame in frames for packet in encoder.encode(packer.pack(frame))]
            packets += encoder.encode(None)
            decoder: Any = av.CodecContext.create(_DECODERS[codec], "r")
            decoder.extradata = encoder.extradata
            decoder.thread_count = 1
            pictures = [picture for packet in packets for picture in decoder.decode(packet)]
            pictures += decoder.decode(None)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{plan.encoder} or its decoder failed on {plan.width}x{plan.height}: {error}") from error
    if len(pictures) != len(frames):
        raise MediaError(f"{plan.encoder}: {len(frames)} frames went in and {len(pictures)} came back")
    color = frames[0].color
    found = [
        replace(frame, planes=tuple(p.copy() for p in view_planes(picture, pixel_layout(picture.format))), color=color)
        for frame, picture in zip(frames, pictures, strict=True)
    ]
    return Recoded(found, [packet.size for packet in packets])
