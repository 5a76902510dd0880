"""Counting what a source meets, over all the passes it makes over its file."""

from __future__ import annotations

from streamlight.media.decode import DecodeCounts
from streamlight.media.deinterlace import Stamped
from streamlight.media.probing import SourceInfo
from streamlight.media.stats import SourceStats


class Tally:
    """Keeps the counters of one source, without what lies before the part that is delivered.

    Attributes:
        stats: The counters.
        last: pts of the last picture that was decoded.
    """

    def __init__(self, *, card: bool) -> None:
        """Start at nothing; ``card`` says whether a card was asked to decode."""
        self.stats = SourceStats()
        self.last: int | None = None
        self._card = card
        self._counts = DecodeCounts()
        self._base = (0, 0, 0)
        self._earlier = 0

    def follow(self, counts: DecodeCounts) -> None:
        """Frames come from the pass with these counts from now on."""
        self._counts = counts

    def forget(self) -> None:
        """What was read up to now lies before the part that is delivered."""
        counts = self._counts
        self._base = (counts.packets, counts.damaged_packets, counts.without_picture)

    def restart(self) -> None:
        """The next pass begins at nothing."""
        self._base = (0, 0, 0)

    def hand_over(self) -> None:
        """Another pass repeats what this one met behind the last frame, and counts it if it is there again."""
        self._earlier = self.stats.packets
        self._base = (0, 0, 0)

    def add(self, item: Stamped, *, rescaled: bool) -> None:
        """Count a frame."""
        stats = self.stats
        stats.frames += 1
        stats.damaged_frames += item.damaged
        stats.missing_pts += item.file_pts is None
        stats.repaired_pts += item.file_pts is not None and item.file_pts != item.pts
        stats.rescaled += rescaled
        stats.deinterlaced += item.deinterlaced
        stats.hardware_frames += item.hardware
        stats.software_frames += self._card and not item.hardware
        self._read()

    def end(self, info: SourceInfo) -> None:
        """The file is over: note what it lacks."""
        self._read()
        self._compare_with_header(info)
        if self.stats.cut_off:
            self.stats.notes.append(f"reading stopped before the end of the file: {self.stats.cut_off}")
        if self.stats.without_picture:
            self.stats.notes.append(f"packets that gave no picture: {self.stats.without_picture}")
        if self.stats.software_frames and not self.stats.fallbacks:
            self.stats.fallbacks.append(
                f"decoded in software, not on a CUDA device: {self.stats.software_frames} frames that the decoder did "
                "not take there"
            )

    def _read(self) -> None:
        counts = self._counts
        packets, damaged, without = self._base
        self.stats.packets = self._earlier + counts.packets - packets
        self.stats.damaged_packets = counts.damaged_packets - damaged
        self.stats.without_picture = max(0, counts.without_picture - without)
        self.stats.cut_off = counts.cut_off

    def _compare_with_header(self, info: SourceInfo) -> None:
        promised = info.streams[info.stream_index].duration
        if promised is None or self.last is None:
            return
        missing = promised - (self.last - info.start_pts) * info.time_base
        rate = info.average_rate or 25
        if missing >= 1 + 2 / rate:
            self.stats.short_by = missing
            self.stats.notes.append(f"the header promises {float(missing):.1f} s more than there are")
