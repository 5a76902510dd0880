"""What the containers demand of the muxer: options, time scales, and where time may begin."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import ceil, lcm
from typing import Any

from streamlight.media import readback
from streamlight.media.carry import is_cover

_MAX_TIMESCALE = (1 << 31) - 1


def options(muxer: str, time_base: Fraction, streams: list[Any], tags: Iterable[str]) -> dict[str, str]:
    """Muxer options for exact times and bounded memory.

    Args:
        muxer: libavformat's muxer name.
        time_base: Of the main video stream.
        streams: Streams of the source that are carried.
        tags: Names of the container tags to write.
    """
    # Packets arrive in order, so libav need not hold any back for streams that are silent for long (subtitles), and
    # times are shifted by us, the same for all streams, so that the report can say by how much.
    chosen = {"max_interleave_delta": "1", "avoid_negative_ts": "disabled"}
    if muxer in ("mp4", "mov"):
        if time_base.denominator <= _MAX_TIMESCALE:
            chosen["video_track_timescale"] = str(time_base.denominator)
        chosen["movie_timescale"] = str(movie_timescale(time_base, streams))
        # MP4 has a fixed list of tags, or free ones; free ones leave no place for cover art.
        free = any(name.lower() not in readback.MP4_TAGS for name in tags)
        if free and not any(is_cover(stream) for stream in streams):
            chosen["movflags"] = "+use_metadata_tags"
    if muxer == "mpegts":
        chosen["mpegts_copyts"] = "1"
    return chosen


def movie_timescale(time_base: Fraction, streams: list[Any]) -> int:
    """A scale in which every stream's start is exact: MP4 writes its edit lists in it, and its default is 1 ms."""
    scale = lcm(1000, time_base.denominator)
    for stream in streams:
        rate = getattr(stream.codec_context, "sample_rate", None) or 0
        if stream.type == "audio" and rate and lcm(scale, rate) <= _MAX_TIMESCALE:
            scale = lcm(scale, rate)
    return scale if scale <= _MAX_TIMESCALE else min(time_base.denominator, _MAX_TIMESCALE)


def shift(muxer: str, earliest: Fraction, streams: list[Any], *, origin: Fraction | None) -> tuple[Fraction, Fraction]:
    """Seconds to add to every time of every stream, and how much of it the container demands.

    Sound before 0 is hidden or harmless everywhere but in MPEG-TS, where decoding times are written: there everything
    moves by whole seconds, which are exact in any time base.

    Args:
        muxer: libavformat's muxer name.
        earliest: First time of the video in the source's clock (MPEG-TS: decoding time), in seconds.
        streams: Streams of the source that are carried.
        origin: Source time that is to lie at 0; ``None`` keeps the source's clock.
    """
    start = origin or Fraction(0)
    lowest = earliest - start
    if muxer == "mpegts":
        if origin is not None and streams:
            lowest = min(lowest, Fraction(-1))  # packets that begin before the cut and reach over it
        for stream in streams if origin is None else ():
            if stream.start_time is not None and stream.time_base:
                lowest = min(lowest, stream.start_time * Fraction(stream.time_base))
    if lowest >= 0:
        return -start, Fraction(0)
    extra = Fraction(ceil(-lowest)) if muxer == "mpegts" else -lowest
    return extra - start, extra
