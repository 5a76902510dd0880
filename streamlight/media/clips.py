"""Plain clips for benchmarks: written from frames in memory, or made longer by repeating their packets.

No journal, no report, nothing carried over: the product itself writes with :mod:`streamlight.media.segments`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Any

import av

from streamlight.errors import MediaError
from streamlight.media.codecs import muxer_for
from streamlight.media.encode import EncodeSettings, configure, plan_encoder, quiet_libav
from streamlight.media.frame import Frame
from streamlight.media.packer import FramePacker


def write_clip(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    *,
    settings: EncodeSettings,
    rate: Fraction,
    options: Mapping[str, str] | None = None,
) -> int:
    """Encode frames into a file of their own.

    Args:
        path: File to write; replaced if it exists. Its suffix chooses the container.
        frames: At least one frame, all of one size and colour, in presentation order.
        settings: Codec and its options.
        rate: Nominal frames per second, for rate control; times come from the frames.
        options: libavcodec options that win over those of the settings.

    Returns:
        The number of frames written.

    Raises:
        MediaError: No frames, or the encoder does not open.
    """
    iterator = iter(frames)
    try:
        first = next(iterator)
    except StopIteration:
        raise MediaError(f"{os.fspath(path)}: there is no frame to write") from None
    plan = plan_encoder(settings, first, container=os.fspath(path), rate=rate)
    plan = replace(plan, options=tuple({**dict(plan.options), **(options or {})}.items()))
    packer, count = FramePacker(plan), 0
    with quiet_libav(), av.open(os.fspath(path), "w", format=muxer_for(os.fspath(path))) as out:
        stream: Any = out.add_stream(plan.encoder, rate=plan.rate)
        stream.time_base = plan.time_base
        configure(stream.codec_context, plan)
        for frame in chain((first,), iterator):
            out.mux(stream.encode(packer.pack(frame)))
            count += 1
        out.mux(stream.encode(None))
    return count


def repeat_clip(source: str | os.PathLike[str], target: str | os.PathLike[str], times: int) -> None:
    """Copy the packets of the first video stream ``times`` times, one pass behind the other.

    Raises:
        MediaError: The source holds no video.
    """
    with quiet_libav(), av.open(os.fspath(source)) as probe:
        if not probe.streams.video:
            raise MediaError(f"{os.fspath(source)}: holds no video to repeat")
        times_of = [p for p in probe.demux(probe.streams.video[0]) if p.pts is not None]
        ends = [int(p.pts or 0) + int(p.duration or 0) for p in times_of]
        starts = [int(p.pts or 0) for p in times_of]
    if not starts:
        raise MediaError(f"{os.fspath(source)}: holds no video packet with a timestamp")
    span = max(max(ends) - min(starts), max(starts) - min(starts) + 1)
    with quiet_libav(), av.open(os.fspath(target), "w", format=muxer_for(os.fspath(target))) as out:
        added: Any = None
        for turn in range(times):
            with av.open(os.fspath(source)) as container:
                stream = container.streams.video[0]
                if added is None:
                    added = out.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts += turn * span
                    packet.dts += turn * span
                    packet.stream = added
                    out.mux(packet)
