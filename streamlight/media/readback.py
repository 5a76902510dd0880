"""Reading the finished file's header back: tags, chapters and flags that did not survive are named, not assumed."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Expected:
    """What was asked of the muxer: container tags, and per stream its tags and dispositions; chapter count."""

    tags: dict[str, str]
    streams: tuple[tuple[str, dict[str, str], int], ...]
    chapters: int

    @classmethod
    def of(cls, output: Any) -> Expected:
        """Taken from an output container before its header is written."""
        return cls(
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
        # Containers sort streams by kind or turn them into others, so only equal counts can be compared one by one.
        streams = [s for s in file.streams if s.type in ("video", "audio", "subtitle")]
        wanted = [entry for entry in expected.streams if entry[0] in ("video", "audio", "subtitle")]
        if [s.type for s in streams] == [kind for kind, _, _ in wanted]:
            for stream, (kind, tags, disposition) in zip(streams, wanted, strict=True):
                label = f"{kind} stream {stream.index}"
                found.extend(_missing(f"tag of {label}", tags, stream.metadata, file))
                lost = disposition & ~int(stream.disposition)
                if lost:
                    names = [flag.name for flag in av.stream.Disposition if flag & lost]
                    found.append(
                        NotCarried(f"disposition {', '.join(map(str, names))} of {label}", f"{_kind(file)} has none")
                    )
    return found


def _missing(what: str, wanted: dict[str, str], got: dict[str, str], file: Any) -> list[NotCarried]:
    have = {key.lower(): value for key, value in got.items()}
    return [
        NotCarried(f"{what} {key!r}", f"{_kind(file)} does not keep it")
        for key, value in wanted.items()
        if value and not _same(key.lower(), value, have.get(key.lower()))
    ]


def _same(key: str, wanted: str, got: str | None) -> bool:
    if key == "language":
        return (wanted or "und") == (got or "und")
    if key in ("handler_name", "vendor_id", "timecode"):
        return True  # the muxer's own business
    if key == "creation_time":
        return got is not None
    return got == wanted


def _kind(file: Any) -> str:
    return str(file.format.name).split(",")[0]
