"""Opening a video or image file and reading its frames.

Passive: decoding happens in the thread that iterates :meth:`Source.frames`; the engine brings the thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from streamlight.errors import ConfigError, DeviceError, MediaError
from streamlight.media import probing, seeking
from streamlight.media.clock import Clock
from streamlight.media.decode import Decoded, DecodeOptions, Pass
from streamlight.media.deinterlace import Deinterlace, Deinterlacer, Stamped
from streamlight.media.frame import Frame
from streamlight.media.hardware import Card, CardPictures, HardwareDecode, HardwareLost, refusal
from streamlight.media.planes import PlaneReader
from streamlight.media.probing import SourceInfo
from streamlight.media.stats import Position, SourceStats
from streamlight.media.surfaces import on_card
from streamlight.media.tally import Tally
from streamlight.media.urls import as_path, redact

if TYPE_CHECKING:
    from streamlight.media.tonemap import ToneMapper


class Source:
    """An open media file. Made by :func:`open_source`; a context manager; for one thread at a time.

    Attributes:
        info: What the file says, what was chosen, and how the frames are to be read.
        stats: Live counters.
        seeked: Whether reading started in the middle of the file instead of decoding and discarding what is before.
    """

    def __init__(
        self,
        options: DecodeOptions,
        *,
        window: tuple[Fraction | None, Fraction | None],
        deinterlace: Deinterlace,
        tonemap: bool,
        resume: Position | None,
        hardware: HardwareDecode = "off",
        card: Card | None = None,
        surfaces: bool = False,
    ) -> None:
        """Open the file and decode its first picture. Use :func:`open_source`."""
        self._tally = Tally(card=hardware != "off")
        self.stats: SourceStats = self._tally.stats
        self.seeked = False
        self._options = options
        self._mode = deinterlace
        self._resume = resume
        self._passes: list[Pass] = []
        self._closed = False
        self._index: int | None = None
        self._card: CardPictures | None = None
        try:
            opened = self._new_pass()
            self._index = opened.stream.index
            pictures = opened.pictures()
            first, info = _first_picture(opened, pictures)
            self._primed: tuple[Pass, Iterator[Decoded], Decoded] | None = (opened, pictures, first)
            self.info = self._prepare(info, first.picture, window, tonemap)
            if hardware != "off":
                self._move_to_card(card or Card(), first, keep=surfaces, insist=hardware == "nvdec")
        except BaseException:
            self.close()
            raise

    def _prepare(
        self, info: SourceInfo, picture: Any, window: tuple[Fraction | None, Fraction | None], tonemap: bool
    ) -> SourceInfo:
        """Make the tools that turn pictures into planes; returns the information with what they do to them."""
        self._reader = PlaneReader(picture, info.color, orientation=info.orientation)
        self._mapper: ToneMapper | None = None
        spec = self._reader.spec
        if info.hdr:
            if not tonemap:
                raise MediaError(
                    f"'{self.name}' is HDR ({info.hdr}), which would come out with wrong colours; "
                    "use --tonemap to convert it to SDR"
                )
            from streamlight.media.tonemap import ToneMapper

            self._mapper = ToneMapper(picture, spec)
            spec = self._mapper.spec
        start, end = window
        origin = info.start_time
        absolute = (None if start is None else origin + start, None if end is None else origin + end)
        return replace(info, color=spec, window=absolute)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The address for messages, credentials redacted."""
        return redact(fspath(self._options.url))

    def close(self) -> None:
        """Release the file and the decoder. Frames already delivered stay valid.

        Another thread that still iterates :meth:`frames` gets a :class:`MediaError`.
        """
        self._closed = True
        self._primed = None
        for opened in self._passes:
            opened.close()
        self._passes.clear()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in presentation order; once only.

        Raises:
            MediaError: Too many damaged packets in a row; nothing inside the window; the file is not the one that the
                resume position was taken from.
        """
        behind = self._resume
        while True:
            try:
                for index, item in self._run() if behind is None else self._resumed(behind):
                    item = self._settled(item)
                    frame = self._frame(index, item)
                    self._tally.add(item, rescaled=not on_card(item.picture) and self._reader.differs(item.picture))
                    yield frame
                    behind = Position(index, item.pts)
                break
            except HardwareLost as lost:
                self._leave_card(str(lost))
        if behind is None:
            self._nothing_in_window()

    def _run(self) -> Iterator[tuple[int, Stamped]]:
        """The full run: (index, picture) of everything inside the window."""
        start, end = self.info.window
        base = self.info.time_base
        items = self._from_start() if start is None else self._from_time(math.ceil(start / base))
        for index, item in enumerate(items):
            if end is not None and item.pts * base >= end:
                return
            yield index, item
        self._tally.end(self.info)

    def _from_start(self) -> Iterator[Stamped]:
        """Everything from the beginning of the file."""
        if self._primed is None:
            opened = self._new_pass()
            pictures = opened.pictures()
        else:
            opened, pictures, first = self._primed
            self._primed = None
            pictures = _with_first(first, pictures)
        yield from self._stamped(opened, pictures)

    def _from_time(self, floor: int) -> Iterator[Stamped]:
        """Everything from a pts on: from a key packet before it where that works, else from the beginning."""
        if floor > self.info.start_pts and self._options.reopenable:
            opened = self._new_pass()
            packet = seeking.land_before(opened, floor - 1)
            if packet is not None:
                try:
                    yield from self._after_landing(opened, packet, floor)
                    return
                except seeking.SeekingFailed:
                    self._tally.restart()
        for item in self._from_start():
            if item.pts >= floor:
                yield item
            else:
                self._tally.forget()

    def _after_landing(self, opened: Pass, packet: Any, floor: int) -> Iterator[Stamped]:
        checked = seeking.checked_before(opened.pictures(packet), floor)
        for item in self._stamped(opened, checked):
            if item.pts >= floor:
                self.seeked = True
                yield item
            else:
                self._tally.forget()

    def _resumed(self, position: Position) -> Iterator[tuple[int, Stamped]]:
        """What the full run yields behind a position."""
        try:
            yield from self._resumed_by_seeking(position)
            return
        except seeking.SeekingFailed:
            self._tally.restart()
            self.seeked = False
        last = -1
        for last, item in self._run():
            if last > position.index:
                yield last, item
                continue
            self._tally.forget()
            if last == position.index and item.pts != position.pts:
                break
        else:
            if last >= position.index:
                return
        raise MediaError(
            f"'{self.name}' is not the file that the interrupted job read: frame {position.index} with "
            f"pts {position.pts} is not in it"
        )

    def _resumed_by_seeking(self, position: Position) -> Iterator[tuple[int, Stamped]]:
        start, end = self.info.window
        base = self.info.time_base
        floor = None if start is None else math.ceil(start / base)
        if self.info.is_image or not self._options.reopenable:
            raise seeking.SeekingFailed
        scan = self._new_pass(decode=False)
        opened = self._new_pass()
        landing = seeking.land_exactly(
            scan, opened, position_pts=position.pts, delivered=position.index + 1, floor=floor
        )
        self._drop(scan)
        if landing is None:
            self._drop(opened)
            raise seeking.SeekingFailed
        self.seeked = True
        index = position.index
        for item in self._stamped(opened, seeking.checked_landing(opened, landing)):
            if item.pts <= position.pts:
                self._tally.forget()
                continue
            if end is not None and item.pts * base >= end:
                return
            index += 1
            yield index, item
        self._tally.end(self.info)

    def _stamped(self, opened: Pass, pictures: Iterator[Decoded]) -> Iterator[Stamped]:
        """Pictures with their times, deinterlaced."""
        self._tally.follow(opened.counts)
        clock = Clock(self.info.time_base, self.info.average_rate)
        mode: Deinterlace = "off" if self.info.is_image else self._mode
        to_host = self._card.to_host if self._card is not None else _as_it_is
        filter_ = Deinterlacer(mode, threads=self._options.thread_count, to_host=to_host)
        for picture, arrival, damaged in pictures:
            self._tally.last = picture.pts
            time = clock.stamp(picture)
            yield from filter_.push(Stamped(picture, time, picture.pts, arrival, damaged, hardware=on_card(picture)))
        yield from filter_.flush()

    def _settled(self, item: Stamped) -> Stamped:
        """The item with its picture on the card only if its frame may stay there."""
        return item if self._card is None else item._replace(picture=self._card.settle(item.picture, self._reader))

    def _frame(self, index: int, item: Stamped) -> Frame:
        picture = item.picture
        reader, mapper = self._reader, self._mapper
        frame = Frame(
            planes=(),
            color=self.info.color,
            pts=item.pts,
            time_base=self.info.time_base,
            duration=max(0, picture.duration),
            index=index,
            key_frame=picture.key_frame,
            damaged=item.damaged,
            arrival=item.arrival,
            origin=picture,
        )
        if self._card is not None and on_card(picture):
            return self._card.attach(frame, picture)
        frame.planes = reader.read(picture) if mapper is None else mapper.map(reader.conform(picture))
        return frame

    def _nothing_in_window(self) -> None:
        start, end = self.info.window
        origin = self.info.start_time
        parts = [
            f"{word} {float(value - origin):g} s" for word, value in (("from", start), ("to", end)) if value is not None
        ]
        raise MediaError(f"'{self.name}' has no frames {' '.join(parts)}")

    def _new_pass(self, *, decode: bool = True) -> Pass:
        if self._closed:
            raise MediaError(f"'{self.name}' was closed while it was being read")
        card = self._card.card if self._card is not None and decode else None
        try:
            opened = Pass(self._options, stream_index=self._index, card=card)
        except DeviceError as error:
            raise HardwareLost(str(error)) from error
        self._passes.append(opened)
        return opened

    def _move_to_card(self, card: Card, first: Decoded, *, keep: bool, insist: bool) -> None:
        """Decode on a card from now on, if it can and gives the first picture that software gave."""
        options, mode = self._options, self._mode
        reason = refusal(self.info, deinterlace=mode, reopenable=options.reopenable)
        if reason is None:
            self._card = CardPictures(card, first.picture.format.name, keep=keep)
            try:
                opened = self._new_pass()
                pictures = opened.pictures()
                mine = next(pictures, None)
                self._card.check_first(None if mine is None else mine.picture, first.picture)
            except (DeviceError, HardwareLost) as error:
                reason = str(error)
        if reason is None and mine is not None:
            software, self._primed = self._primed, (opened, pictures, mine)
            assert software is not None
            self._drop(software[0])
            return
        if insist:
            raise DeviceError(
                f"'{self.name}' cannot be decoded on CUDA device {card.index}: {reason}; use --hardware-decode auto or "
                "off, and see `streamlight doctor`"
            )
        self._card = None
        for opened in self._passes[1:]:
            self._drop(opened)
        self.stats.fallbacks.append(f"decoded in software, not on CUDA device {card.index}: {reason}")

    def _leave_card(self, reason: str) -> None:
        """Decode in software from now on."""
        assert self._card is not None
        card, frames = self._card.card.index, self.stats.frames
        self.stats.fallbacks.append(f"decoded in software, not on CUDA device {card}, after {frames} frames: {reason}")
        self._tally.hand_over()
        self._card, self._primed = None, None
        for opened in list(self._passes):
            self._drop(opened)

    def _drop(self, opened: Pass) -> None:
        self._passes.remove(opened)
        opened.close()


def _first_picture(opened: Pass, pictures: Iterator[Decoded]) -> tuple[Decoded, SourceInfo]:
    """The first picture of a file, and all that is then known about the file."""
    first = next(pictures, None)
    if first is None:
        raise MediaError(f"'{opened.name}': no picture can be decoded; it is damaged, cut off, or no video")
    header = probing.describe(opened.container, opened.stream, opened.options.url)
    info = probing.refine(header, first.picture, as_path(opened.options.url))
    # A file without timestamps starts where the clock starts it.
    start_pts = Clock(info.time_base, info.average_rate).stamp(first.picture)
    return first, replace(info, start_pts=start_pts)


def _as_it_is(picture: Any) -> Any:
    return picture


def _with_first(first: Decoded, rest: Iterator[Decoded]) -> Iterator[Decoded]:
    yield first
    yield from rest


def open_source(
    url: str | PathLike[str],
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    tonemap: bool = False,
    max_damaged: int = 300,
    threads: int | None = None,
    resume: Position | None = None,
    hardware: HardwareDecode = "off",
    device: int = 0,
    surfaces: bool = False,
) -> Source:
    """Open a video or image file for reading frame by frame.

    All frames have the size, format and colour of the file's first picture; later ones that differ are converted and
    counted. Video is delivered as it is coded (``info.rotation`` says how players turn it); still images are
    delivered upright. Planes are views into the decoder's buffers where the format allows it.

    Args:
        url: A file or a network address.
        start: First time that is delivered, in seconds behind the stream's first frame; None for its beginning.
        end: First time that is not delivered any more, in seconds behind the stream's first frame.
        deinterlace: ``"auto"`` deinterlaces frames flagged interlaced, ``"all"`` every frame, ``"off"`` none; the
            number of frames and their times stay (one frame per picture, bwdif).
        tonemap: Whether HDR is converted to SDR (see :mod:`streamlight.media.tonemap`); otherwise it is refused.
        max_damaged: Damaged packets in a row that are put up with before reading fails.
        threads: Decoder threads; None for one per core, eight at most.
        resume: Position behind which to go on, from an earlier run with the same other arguments; indices go on
            from it and the frames are those of the uninterrupted run.
        hardware: ``"auto"`` decodes on a card (NVDEC) where it can and gives the pictures of the software decoder,
            ``"nvdec"`` refuses to do without, ``"off"`` decodes in software. Behind the first damaged or missing
            picture software goes on. Why and how much it did is in :attr:`Source.stats`.
        device: Number of the CUDA device to decode on.
        surfaces: Whether the planes of a frame may be a :class:`streamlight.media.surfaces.Surface`, which stays on
            the card; otherwise every frame is brought to main memory.

    Raises:
        MediaError: The file does not exist, is no media file, holds no video, cannot be decoded, or is HDR.
        DeviceError: ``hardware`` is ``"nvdec"``, and the file cannot be decoded on the card.
        ConfigError: ``start`` is negative or not before ``end``, or another argument is out of range.
    """
    if start is not None and start < 0:
        raise ConfigError(f"start must not be negative, got {float(start):g} s")
    if end is not None and end <= (start or 0):
        raise ConfigError(f"end must lie behind start, got {float(start or 0):g} s to {float(end):g} s")
    if max_damaged < 0:
        raise ConfigError(f"max_damaged must not be negative, got {max_damaged}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be positive, got {threads}")
    options = DecodeOptions(url, threads=threads, max_damaged=max_damaged)
    return Source(
        options, window=(start, end), deinterlace=deinterlace, tonemap=tonemap, resume=resume,
        hardware=hardware, card=Card(device), surfaces=surfaces,
    )  # fmt: skip


def probe(url: str | PathLike[str]) -> SourceInfo:
    """Describe a media file: its header, and what its first picture adds.

    Args:
        url: A video or image file, or a network address.

    Raises:
        MediaError: It does not exist, is no media file, holds no video, or cannot be decoded.
    """
    opened = Pass(DecodeOptions(url, threads=1))
    try:
        return _first_picture(opened, opened.pictures())[1]
    finally:
        opened.close()
