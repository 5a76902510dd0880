"""Where a reader stands, and what it has met on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Position:
    """The last frame that is done: its index in output order and its pts. Reading resumes behind it."""

    index: int
    pts: int


@dataclass(slots=True)
class SourceStats:
    """Live counters of one source. What lies before the window or before the resume position is not counted.

    Attributes:
        packets: Packets read from the chosen stream (a decoder reads ahead of the frames).
        frames: Frames delivered.
        damaged_packets: Packets that the decoder refused.
        without_picture: Packets that gave no picture: refused ones, pictures that refer to lost ones, and second
            fields stored as packets of their own. Known exactly at the end.
        damaged_frames: Frames delivered although errors had to be concealed in them, or their packet was incomplete.
        missing_pts: Frames without a pts in the file, whose pts was reconstructed (see
            :class:`streamlight.media.clock.Clock`).
        repaired_pts: Frames whose pts was not later than the one before, and was moved behind it.
        rescaled: Frames of another size, format or colour than the first of the file, converted to it.
        deinterlaced: Frames that were deinterlaced.
        cut_off: Why reading stopped before the end of the file, or None.
        short_by: Seconds that the header promises beyond the last frame, where that is a second or more (a file that
            was cut off, or a header that lies); None otherwise, and for windows that end earlier.
        hardware_frames: Frames that were decoded on a card.
        software_frames: Frames that were decoded in software although a card was asked for.
        fallbacks: Why software decoded what a card was asked for, one text each; empty where the card did it all.
        notes: Losses and oddities in words, for the report.
    """

    packets: int = 0
    frames: int = 0
    damaged_packets: int = 0
    without_picture: int = 0
    damaged_frames: int = 0
    missing_pts: int = 0
    repaired_pts: int = 0
    rescaled: int = 0
    deinterlaced: int = 0
    hardware_frames: int = 0
    software_frames: int = 0
    cut_off: str | None = None
    short_by: Fraction | None = None
    fallbacks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
