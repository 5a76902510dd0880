"""One encoder and one muxer for pictures that must be on their way at once. Runs in the child process."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
from av.bitstream import BitStreamFilterContext
from av.video.frame import PictureType

from streamlight.errors import ConfigError, MediaError
from streamlight.media import codecs
from streamlight.media.encode import EncoderPlan, EncodeSettings, configure, plan_encoder, quiet_libav
from streamlight.media.frame import Frame
from streamlight.media.packer import FramePacker

TIME_BASE = Fraction(1, 90_000)
"""In which every live frame's pts is given to the encoder."""
LiveCodec = Literal["h264", "hevc"]

_NO_WAITING: dict[str, dict[str, str]] = {
    "libx264": {"tune": "zerolatency", "bf": "0", "forced-idr": "1"},
    "libx265": {"tune": "zerolatency", "forced-idr": "1"},
    "nvenc": {"tune": "ull", "zerolatency": "1", "delay": "0", "bf": "0", "forced-idr": "1"},
    "qsv": {"async_depth": "1", "bf": "0", "forced_idr": "1"},
    "amf": {"usage": "ultralowlatency", "bf": "0", "forced_idr": "1"},
    "vaapi": {"async_depth": "1", "bf": "0"},
    "videotoolbox": {"realtime": "1", "bf": "0"},
}
"""Options per encoder (or hardware family) for one packet per picture, in order, and key frames on demand."""
_FASTEST = {"libx264": "ultrafast", "libx265": "ultrafast", "nvenc": "p2", "qsv": "veryfast", "amf": "speed"}
"""Presets unless another is asked for: the encoder shares the machine with the enhancement of the next picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEncodeSettings:
    """What the user asks of a live encoder.

    Attributes:
        codec: ``"h264"`` plays everywhere.
        quality: On the encoder's own scale; None for its default.
        preset: Speed preset of the encoder; None for its fastest, at a quarter of the usual cost for x264.
        max_bitrate: Ceiling in kbit/s, averaged over one second; None for none. Noise of night pictures is dear.
        key_interval: Seconds between key frames: how long a viewer who joins may have to wait.
        hardware: ``"off"``, ``"auto"`` or a family, see `media.EncodeSettings`.
        threads: Encoder threads; 0 lets the encoder take all cores.
    """

    codec: LiveCodec = "h264"
    quality: int | None = None
    preset: str | None = None
    max_bitrate: int | None = None
    key_interval: float = 2.0
    hardware: str = "off"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.codec not in ("h264", "hevc"):
            raise ConfigError(f"codec: unknown value {self.codec!r}; live streams use h264 or hevc")
        if not 0.1 <= self.key_interval <= 60:
            raise ConfigError(f"key_interval must be from 0.1 to 60 seconds, got {self.key_interval}")
        if self.max_bitrate is not None and not 16 <= self.max_bitrate <= 1_000_000:
            raise ConfigError(f"max_bitrate must be from 16 to 1000000 kbit/s, got {self.max_bitrate}")
        EncodeSettings(codec=self.codec, hardware=self.hardware, threads=self.threads)


def plan_live(
    settings: LiveEncodeSettings,
    frame: Frame,
    *,
    plays_everywhere: bool,
    sample_aspect: Fraction | None = None,
    rate: Fraction | None = None,
) -> EncoderPlan:
    """Choose encoder and options for live frames like this one.

    Args:
        settings: What the user asks for.
        frame: Any frame of the stream, in `TIME_BASE`.
        plays_everywhere: Whether to reduce to 8 bit 4:2:0, which is all that browsers and hardware decoders take.
        sample_aspect: Pixel aspect ratio; None when unknown.
        rate: Nominal frame rate, for rate control only.

    Raises:
        ConfigError: A number is outside the encoder's scale.
        DeviceError: A hardware encoder was insisted on and does not open.
        MediaError: No encoder opens for these frames.
    """
    asked = EncodeSettings(
        codec=settings.codec,
        quality=settings.quality,
        preset=settings.preset,
        hardware=settings.hardware,
        threads=settings.threads,
        gop=600,  # key frames come by time; this only bounds them where a stream is very fast
    )
    plan = plan_encoder(asked, frame, container="live.ts", sample_aspect=sample_aspect, rate=rate)
    family = codecs.family_of(plan.encoder)
    options = dict(plan.options) | _NO_WAITING.get(family, {})
    if settings.preset is None and family in _FASTEST:
        options["quality" if family == "amf" else "preset"] = _FASTEST[family]
    if family == "libx265":
        options["x265-params"] += ":bframes=0"
    if settings.max_bitrate is not None:
        options |= {"maxrate": f"{settings.max_bitrate}k", "bufsize": f"{settings.max_bitrate}k"}
    plan = dataclasses.replace(plan, options=tuple(sorted(options.items())))
    return _common_format(plan, frame) if plays_everywhere else plan


def _common_format(plan: EncoderPlan, frame: Frame) -> EncoderPlan:
    """The same plan in 8 bit 4:2:0."""
    if plan.pix_fmt in ("yuv420p", "nv12"):
        return plan
    color = frame.color
    pix_fmt, _, _, losses = codecs.choose_pixel_format(["yuv420p"], color.chroma, color.bit_depth)
    width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
    return dataclasses.replace(plan, pix_fmt=pix_fmt, width=width, height=height, losses=(*plan.losses, *losses))


class LiveStream:
    """An open output: frames go in, packets are written at once. Times start at 0 with the first frame.

    Opening and closing may block for as long as the other side likes, with the GIL held: hence the child process.

    Args:
        target: Address or file, as libav takes it.
        plan: From `plan_live`.
        format: Muxer.
        options: Of muxer and protocol.
        key_interval: Seconds between key frames.
        repeat_headers: Whether every key frame carries the codec's parameters, for viewers that missed them.
        metadata: Tags of the container.

    Raises:
        av.error.FFmpegError: The output does not open.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        plan: EncoderPlan,
        *,
        format: str,
        options: dict[str, str],
        key_interval: float,
        repeat_headers: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.packets = 0
        self.bytes = 0
        self.first_pts: int | None = None
        self.last_pts = 0
        self._packer = FramePacker(plan)
        self._key_ticks = round(key_interval / TIME_BASE)
        self._next_key = 0
        with quiet_libav():
            self._container: Any = av.open(os.fspath(target), "w", format=format, options=options)
            self._container.metadata.update(metadata or {})
            stream: Any = self._container.add_stream(plan.encoder, rate=plan.rate)
            configure(stream.codec_context, plan)
            self._container.start_encoding()
        self._stream = stream
        self._filter: Any = None
        if repeat_headers:
            self._filter = BitStreamFilterContext("dump_extra=freq=keyframe", in_stream=self._stream)

    def write(self, frame: Frame) -> int:
        """Encode one frame and write what the encoder gives for it. Times must increase.

        Returns:
            Packets written by this call.

        Raises:
            av.error.FFmpegError: The other side is gone, or the disk refuses.
            MediaError: The frame does not fit the plan.
        """
        picture = self._packer.pack(frame)
        if self.first_pts is None:
            self.first_pts = frame.pts
        picture.pts = frame.pts - self.first_pts
        if picture.pts >= self._next_key:
            picture.pict_type = PictureType.I
            self._next_key = picture.pts + self._key_ticks
        self.last_pts = frame.pts
        return self._mux(self._stream.encode(picture))

    def close(self) -> int:
        """Write what the encoder still holds, and the end of the stream; returns the packets written by this call."""
        with quiet_libav():
            written = self._mux(self._stream.encode(None))
            self._container.close()
        return written

    def _mux(self, packets: list[Any]) -> int:
        for packet in packets:
            if packet.pts is None or packet.dts is None:
                raise MediaError(f"encoder {self.plan.encoder} gave a packet without a time; try --hardware off")
            self.bytes += packet.size
            for piece in self._filter.filter(packet) if self._filter is not None else (packet,):
                self._container.mux(piece)
        self.packets += len(packets)
        return len(packets)
