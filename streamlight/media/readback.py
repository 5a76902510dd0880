"""Reading the finished file's header back: tags, chapters and flags that did not survive are named, not assumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from streamlight.media.carry import NotCarried

MP4_TAGS = {
    *("title", "artist", "author", "album_artist", "composer", "album", "date", "comment", "genre", "copyright"),
    *("grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc"),
    *("creation_time", "encoder", "encoding_tool", "episode_sort", "season_number", "media_type", "hd_video"),
    *("gapless_playback", "compilation", "language", "location", "make", "model"),
}
"""Container tags that MP4's own list has."""


_BOTH = (
    "alb:sqi arm:hye baq:eus bur:mya chi:zho cze:ces dut:nld fre:fra geo:kat ger:deu gre:ell ice:isl mac:mkd "
    "mao:mri may:msa per:fas rum:ron slo:slk tib:bod wel:cym"
)
_TERMINOLOGIC = dict(pair.split(":") for pair in _BOTH.split())
"""ISO 639-2 has two codes for these languages; QuickTime knows one of them."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What was asked of the muxer: container tags, per stream its tags and dispositions, chapters, the picture's look.

    Attributes:
        aspect: Pixel aspect ratio of the main video stream, 0 if unknown.
        colors: Its H.273 code points (matrix, range, primaries, transfer); 0 and 2 in the right places are "unknown".
    """

    index: int
    aspect: Fraction
    colors: tuple[int, int, int, int]
    tags: dict[str, str]
    streams: tuple[tuple[str, dict[str, str], int], ...]
    chapters: int

    @classmethod
    def of(cls, output: Any, video: Any) -> Expected:
        """Taken from an output container and its main video stream before the header is written."""
        return cls(
            video.index,
            Fraction(video.codec_context.sample_aspect_ratio or 0),
            _colors(video.codec_context),
            dict(output.metadata),
            tuple((s.type, dict(s.metadata), int(s.disposition)) for s in output.streams),
            len(output.chapters()),
        )


def compare(path: Path, expected: Expected) -> list[NotCarried]:
    """What the file at ``path`` does not give back of ``expected``."""
    found: list[NotCarried] = []
    with av.open(str(path), metadata_errors="replace") as file:
        found.extend(_missing("tag", expected.tags, file.metadata, file))
        chapters = len(file.chapters())
        if chapters != expected.chapters:
            kept = f"{_kind(file)} kept {chapters}"
            found.append(NotCarried(f"{expected.chapters - chapters} of {expected.chapters} chapters", kept))
        found.extend(_streams(file, expected))
        found.extend(_look(file, expected))
    return found


def _look(file: Any, expected: Expected) -> Iterator[NotCarried]:
    """Pixel aspect and colour of the main picture."""
    if expected.index >= len(file.streams) or file.streams[expected.index].type != "video":
        return
    stream = file.streams[expected.index]
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    if expected.aspect > 0 and aspect != expected.aspect:
        yield NotCarried(f"pixel aspect {expected.aspect}", f"{_kind(file)} gives {aspect}")
    names = ("matrix", "range", "primaries", "transfer")
    unknown = ((2,), (0, 1), (0, 2), (0, 2))  # a range that is not marked full is limited anyway
    for name, wanted, got, none in zip(names, expected.colors, _colors(stream.codec_context), unknown, strict=True):
        if wanted not in none and got != wanted:
            yield NotCarried(f"colour {name} (code {wanted})", f"{_kind(file)} does not keep it with this codec")


def _colors(context: Any) -> tuple[int, int, int, int]:
    return (
        int(context.colorspace),
        int(context.color_range),
        int(context.color_primaries),
        int(context.color_trc),
    )


def _streams(file: Any, expected: Expected) -> Iterator[NotCarried]:
    """Streams that are not there, and tags and flags of those that are, kind by kind in their order."""
    for kind in ("video", "audio", "subtitle"):
        got = [stream for stream in file.streams if stream.type == kind]
        wanted = [entry for entry in expected.streams if entry[0] == kind]
        if len(got) < len(wanted):
            yield NotCarried(f"{len(wanted) - len(got)} of {len(wanted)} {kind} streams", f"{_kind(file)} lost them")
            continue
        for stream, (_, tags, disposition) in zip(got, wanted, strict=False):
            label = f"{kind} stream {stream.index}"
            yield from _missing(f"tag of {label}", tags, stream.metadata, file)
            lost = disposition & ~int(stream.disposition)
            if len(wanted) == 1:
                lost &= ~int(av.stream.Disposition.default)  # the only one of its kind is the default anyway
            if lost:
                names = ", ".join(str(flag.name) for flag in av.stream.Disposition if flag & lost)
                yield NotCarried(f"disposition {names} of {label}", f"{_kind(file)} does not keep it")


def _missing(what: str, wanted: dict[str, str], got: dict[str, str], file: Any) -> list[NotCarried]:
    have = {key.lower(): value for key, value in got.items()}
    return [
        NotCarried(f"{what} {key!r}", f"{_kind(file)} does not keep it")
        for key, value in wanted.items()
        if value and not _same(key.lower(), value, have.get(key.lower()))
    ]


def _same(key: str, wanted: str, got: str | None) -> bool:
    if key == "language":
        return _TERMINOLOGIC.get(wanted, wanted) == _TERMINOLOGIC.get(got or "und", got or "und")
    if key in ("handler_name", "vendor_id", "timecode"):
        return True  # the muxer's own business
    if key == "creation_time":
        return got is not None
    return got == wanted


def _kind(file: Any) -> str:
    return str(file.format.name).split(",")[0]
