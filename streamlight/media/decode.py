"""One pass over a video stream: packets in, pictures out, damage counted, nothing lost at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from os import PathLike, fspath
from typing import Any, NamedTuple, NoReturn

import av

from streamlight.cores import available_cores
from streamlight.errors import MediaError
from streamlight.media import probing, seeking
from streamlight.media.hardware import Card, HardwareLost
from streamlight.media.urls import as_path, redact

READ_RETRIES = 8
"""How often reading is tried again after the demuxer reported an error, before the stream counts as cut off."""


class Decoded(NamedTuple):
    """A decoded picture (``av.VideoFrame``), when its packet was read, and whether it is known to be damaged."""

    picture: Any
    arrival: float
    damaged: bool


@dataclass(slots=True)
class DecodeCounts:
    """Counters of one pass.

    Attributes:
        packets: Packets read.
        pictures: Pictures decoded.
        damaged_packets: Packets that the decoder refused.
        without_picture: Packets that gave no picture, known once later pictures have come out.
        missing_pts: Packets without a pts.
        cut_off: Why reading ended before the end of the file, if it did.
    """

    packets: int = 0
    pictures: int = 0
    damaged_packets: int = 0
    without_picture: int = 0
    missing_pts: int = 0
    cut_off: str | None = None


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What a pass needs to know; the same for every pass over one source.

    Attributes:
        url: File or address.
        threads: Decoder threads; None for one a core, eight at most.
        max_damaged: Damaged packets in a row that are put up with.
    """

    url: str | PathLike[str]
    threads: int | None = None
    max_damaged: int = 300

    @property
    def reopenable(self) -> bool:
        """Whether the same bytes can be read a second time: files and HTTP, not pipes or live streams."""
        path = as_path(self.url)
        if path is None:
            return fspath(self.url).lower().startswith(("http://", "https://"))
        return path.is_file()

    @property
    def thread_count(self) -> int:
        """Decoder threads really used; one where the end could not be decoded again (see :meth:`Pass.pictures`)."""
        return (self.threads or min(available_cores(), 8)) if self.reopenable else 1


class Waiting:
    """Packets whose picture has not come out yet: when they were read, and which of them never give one."""

    def __init__(self, counts: DecodeCounts) -> None:
        self._counts = counts
        self._read: dict[int, float] = {}
        self._corrupt: set[int] = set()
        self._first: int | None = None

    def sent(self, packet: Any) -> None:
        """Note a packet that goes to the decoder."""
        if packet.pts is None:
            self._counts.missing_pts += 1
        elif not packet.is_discard:
            self._read[packet.pts] = time.monotonic()
            if packet.is_corrupt:
                self._corrupt.add(packet.pts)

    def received(self, picture: Any) -> Decoded:
        """Note a picture (``av.VideoFrame``) that came out, and find when its packet was read."""
        pts = picture.pts
        self._counts.pictures += 1
        self._first = pts if self._first is None else self._first
        arrival = self._read.pop(pts, None)
        if len(self._read) > 64 and pts is not None:
            # Pictures come out in order of time: what is older than this one never will.
            gone = [key for key in self._read if key < pts]
            for key in gone:
                del self._read[key]
            self._counts.without_picture += len(gone)
        damaged = self.damaged(picture)
        self._corrupt.discard(pts)
        return Decoded(picture, time.monotonic() if arrival is None else arrival, damaged)

    def damaged(self, picture: Any) -> bool:
        """Whether a picture (``av.VideoFrame``) is known to be damaged, by itself or by its packet."""
        return bool(picture.is_corrupt) or picture.pts in self._corrupt

    def left(self) -> set[int]:
        """The pts of the packets that are still waited for."""
        return set(self._read)

    def leading(self) -> int:
        """How many of them lie before the first picture: they refer to pictures that the stream does not hold."""
        return sum(1 for pts in self._read if self._first is not None and pts < self._first)

    def overtaken(self, pts: int | None) -> int:
        """How many others should have come out before the picture with this pts (None: before the end)."""
        if self._first is None and pts is not None:
            return 0  # It is the first one.
        behind = len(self._read) if pts is None else sum(1 for read in self._read if read < pts)
        return behind - self.leading()


class Pass:
    """One pass over the chosen stream of a file, from the beginning or from a key packet.

    Attributes:
        container: The ``av.InputContainer``.
        stream: The ``av.VideoStream``.
        counts: Counters, live.
        refused: pts of the packets that the decoder refused; with several threads they are reported late, and these
            are the pts of the packets that were being sent then.
    """

    def __init__(
        self,
        options: DecodeOptions,
        *,
        stream_index: int | None = None,
        threads: int | None = None,
        card: Card | None = None,
    ) -> None:
        """Open the file.

        Args:
            options: What to open.
            stream_index: Stream to decode; None chooses it.
            threads: Decoder threads instead of those of the options.
            card: Where to decode; None for software.

        Raises:
            MediaError: It cannot be opened or has no video.
            DeviceError: It cannot be decoded on the card.
        """
        self.options = options
        self.container = probing.open_container(options.url)
        self.counts = DecodeCounts()
        self.refused: set[int | None] = set()
        # PyAV crashes when a container is read after it was closed, or while it is being closed.
        self._lock = threading.Lock()
        self._closed = False
        self._error: Exception | None = None
        self._threads = 1 if card is not None else threads or options.thread_count
        self._card = card
        try:
            if stream_index is None:
                self.stream = probing.choose_video(self.container, options.url)
            else:
                self.stream = self.container.streams[stream_index]
            self._decoder: Any = self.stream.codec_context
            if card is not None:
                self._decoder = card.open(self.stream)
            else:
                self._decoder.thread_count = self._threads
                self._decoder.thread_type = "AUTO" if self._threads > 1 else "NONE"
        except (IndexError, AttributeError) as error:
            self.close()
            raise MediaError(f"'{self.name}' has changed while it was being read") from error
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The address for messages, credentials redacted."""
        return redact(fspath(self.options.url))

    def close(self) -> None:
        """Release file and decoder; may be called from another thread, and then waits for the packet in work."""
        with self._lock:
            self._closed = True
            self._decoder = None
            self.container.close()

    def _check_open(self) -> None:
        if self._closed:
            raise MediaError(f"'{self.name}' was closed while it was being read")

    def packets(self) -> Iterator[Any]:
        """Packets of the stream. A read error ends it early and is kept in ``counts.cut_off``."""
        retries = READ_RETRIES
        reading = self.container.demux(self.stream)
        while True:
            try:
                with self._lock:
                    self._check_open()
                    packet = next(reading)
            except (StopIteration, IndexError):
                # PyAV fails with IndexError at the very end if streams appeared that the header did not announce.
                return
            except av.error.FFmpegError as error:
                retries -= 1
                if retries <= 0:
                    self.counts.cut_off = probing.open_failure(error)
                    return
                reading = self.container.demux(self.stream)
                continue
            retries = READ_RETRIES
            # Empty packets are the request to flush, which is made below, or dropped frames of AVI, which only mean
            # that the picture before stays; to a decoder they would mean the end.
            if packet.size:
                yield packet

    def pictures(self, first: Any = None) -> Iterator[Decoded]:
        """Decode to the end.

        With frame threads the last packets are decoded while flushing, and PyAV cannot go on flushing behind an error.
        Where that may have swallowed good pictures the end is decoded again with one thread.

        Args:
            first: A packet that was read already and goes before the next ones.

        Raises:
            MediaError: More than ``max_damaged`` packets in a row were damaged.
            HardwareLost: On a card: something was damaged, refused or lost behind the pictures yielded so far.
        """
        waiting = Waiting(self.counts)
        last: int | None = None
        run = 0
        for packet in self.packets() if first is None else chain([first], self.packets()):
            self.counts.packets += 1
            waiting.sent(packet)
            pictures = self._send(packet)
            for picture in self._trusted(pictures, waiting):
                last = picture.pts
                yield waiting.received(picture)
            run = 0 if pictures else self._checked_run(run, refused=pictures is None)
        refused_before = self.counts.damaged_packets
        for picture in self._trusted(self._send(None), waiting):
            last = picture.pts
            yield waiting.received(picture)
        self._check_nothing_lost(waiting)
        if self._threads > 1 and self._may_have_lost(waiting):
            self.counts.damaged_packets = refused_before
            for item in self._rescue(last, waiting.left()):
                yield waiting.received(item.picture)
        if self.counts.missing_pts:
            self.counts.without_picture = max(0, self.counts.packets - self.counts.pictures)
        else:
            # Behind a landing, what refers to pictures before it was never to come out.
            before = 0 if first is None else waiting.leading()
            self.counts.without_picture += len(waiting.left()) - before

    def _send(self, packet: Any) -> list[Any] | None:
        """Pictures that come out for a packet (None: for the end of the stream); None if it is damaged."""
        try:
            with self._lock:
                self._check_open()
                return list(self._decoder.decode(packet))
        except EOFError:
            return []
        except av.error.FFmpegError as error:
            self.counts.damaged_packets += 1
            self.refused.add(packet.pts if packet is not None else None)
            self._error = error
            return None

    def _trusted(self, pictures: list[Any] | None, waiting: Waiting) -> Iterator[Any]:
        """The pictures of one packet; those of a card up to the first that software may give otherwise, or more of.

        NVDEC conceals errors in its own way, and does not always say so; it was also seen to drop pictures silently.
        """
        if self._card is None:
            yield from pictures or ()
            return
        for picture in pictures or ():
            if self.counts.missing_pts:
                self._lose("packets come without times, and lost ones would not be noticed")
            if lost := waiting.overtaken(picture.pts):
                self._lose(f"{_packets(lost)} gave no picture")
            if waiting.damaged(picture):
                self._lose("a picture is damaged")
            yield picture
        if pictures is None:
            reason = probing.open_failure(self._error) if self._error else "unknown"
            self._lose(f"the decoder refused a packet ({reason})")

    def _check_nothing_lost(self, waiting: Waiting) -> None:
        """At the end of a card's pass: packets in must be pictures out."""
        lost = 0 if self._card is None else waiting.overtaken(None)
        if lost:
            self._lose(f"{_packets(lost)} gave no picture")

    def _lose(self, reason: str) -> NoReturn:
        raise HardwareLost(reason) from self._error

    def _checked_run(self, run: int, *, refused: bool) -> int:
        """Length of the run of damaged packets after one more packet without a picture."""
        if not refused:
            return run  # The decoder is only late.
        if run >= self.options.max_damaged:
            reason = probing.open_failure(self._error) if self._error else "unknown"
            raise MediaError(
                f"'{self.name}': more than {self.options.max_damaged} damaged packets in a row ({reason}); "
                "is it encrypted, or badly damaged?"
            ) from self._error
        return run + 1

    def _may_have_lost(self, waiting: Waiting) -> bool:
        """Whether packets near the end gave no picture."""
        if self.counts.missing_pts:
            return self.counts.packets > self.counts.pictures + self.counts.damaged_packets
        return bool(waiting.left())

    def _rescue(self, last: int | None, missing: set[int]) -> Iterator[Decoded]:
        """Decode the end again with one thread, which meets errors when a packet is sent and loses nothing behind."""
        for seek in (True, False):
            again = Pass(self.options, stream_index=self.stream.index, threads=1)
            try:
                first = seeking.land_before(again, last) if seek and last is not None else None
                if seek and first is None:
                    continue
                reached = not seek
                for item in again.pictures(first):
                    pts = item.picture.pts
                    if pts is None or last is None:
                        behind = again.counts.pictures > self.counts.pictures
                    else:
                        reached = reached or pts == last
                        behind = pts > last
                    if behind and not reached:
                        break
                    if behind:
                        yield item
                if reached:
                    self._count_rescued(again, missing)
                    return
            finally:
                again.close()

    def _count_rescued(self, again: Pass, missing: set[int]) -> None:
        if self.counts.missing_pts:
            self.counts.damaged_packets = max(self.counts.damaged_packets, again.counts.damaged_packets)
        else:
            self.counts.damaged_packets += len(missing & again.refused)


def _packets(count: int) -> str:
    return "a packet" if count == 1 else f"{count} packets"
