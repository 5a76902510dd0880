"""Deinterlacing through libavfilter's ``bwdif``: one picture out for every picture in, at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import av

from streamlight.errors import MediaError

Deinterlace = Literal["auto", "off", "all"]


class Stamped(NamedTuple):
    """A decoded picture on its way to becoming a frame.

    Attributes:
        picture: ``av.VideoFrame``.
        pts: Presentation time in units of the stream's time base.
        file_pts: The pts that the file gives, or None.
        arrival: ``time.monotonic()`` when its packet was read.
        damaged: Whether it is known to be damaged.
        deinterlaced: Whether it went through the deinterlacer.
        hardware: Whether it was decoded on a card.
    """

    picture: Any
    pts: int
    file_pts: int | None
    arrival: float
    damaged: bool
    deinterlaced: bool = False
    hardware: bool = False


class Deinterlacer:
    """Deinterlaces a stream of pictures; pictures that need none pass untouched.

    ``"auto"`` treats the pictures flagged interlaced, ``"all"`` every picture, ``"off"`` none. The filter looks one
    picture ahead, so from the first interlaced picture on the stream is one picture late; it is built only then.
    """

    def __init__(
        self, mode: Deinterlace, *, threads: int = 1, to_host: Callable[[Any], Any] = lambda picture: picture
    ) -> None:
        """Choose which pictures are treated, and how.

        Args:
            mode: See the class.
            threads: Threads of the filter.
            to_host: Brings a picture (``av.VideoFrame``) to main memory, where the filter works.
        """
        self._mode = mode
        self._threads = threads
        self._to_host = to_host
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None
        self._waiting: deque[Stamped | None] = deque()
        self._previous: Stamped | None = None
        self._number = 0

    def push(self, item: Stamped) -> Iterator[Stamped]:
        """Put in one picture; yields the pictures that are ready."""
        if self._mode == "off":
            yield item
            return
        host = item if self._graph is None else self._hosted(item)
        if self._graph is not None and _shape(host.picture) != self._shape:
            yield from self.flush()
        if self._graph is None:
            if self._mode == "auto" and not item.picture.interlaced_frame:
                self._previous = item
                yield item
                return
            host = self._hosted(item)
            self._start(host)
        yield from self._feed(host, host)

    def _hosted(self, item: Stamped) -> Stamped:
        return item._replace(picture=self._to_host(item.picture))

    def flush(self) -> Iterator[Stamped]:
        """Yield what is still inside; the next picture starts afresh."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph = None
            self._waiting.clear()
        self._previous = None

    def _start(self, item: Stamped) -> None:
        picture = item.picture
        self._shape = _shape(picture)
        graph = av.filter.Graph()
        graph.threads = self._threads
        source = graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1)
        )
        which = "interlaced" if self._mode == "auto" else "all"
        try:
            # Formats that bwdif does not know are converted on the way in, and back on the way out.
            filter_ = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}")
            back = graph.add("format", f"pix_fmts={picture.format.name}")
            graph.link_nodes(source, filter_, back, graph.add("buffersink"))
            graph.configure()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(
                f"interlaced pictures in format {picture.format.name} cannot be deinterlaced; turn deinterlacing off"
            ) from error
        self._graph = graph
        previous = None if self._previous is None else self._hosted(self._previous)
        if previous is not None and _shape(previous.picture) == self._shape:
            # The filter predicts from the picture before, which has been delivered already.
            for _ in self._feed(previous, None):
                pass
        self._previous = None

    def _feed(self, item: Stamped, entry: Stamped | None) -> Iterator[Stamped]:
        # The filter halves its time base; numbers of our own make the way back to the real times exact.
        picture = item.picture
        real = picture.pts
        picture.pts = self._number
        self._number += 1
        self._waiting.append(entry)
        self._graph.push(picture)
        picture.pts = real
        yield from self._pull()

    def _pull(self) -> Iterator[Stamped]:
        while self._waiting:
            try:
                out = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            entry = self._waiting.popleft()
            if entry is None:
                continue
            treated = self._mode == "all" or bool(entry.picture.interlaced_frame)
            out.pts, out.duration = entry.picture.pts, entry.picture.duration
            yield entry._replace(picture=out, deinterlaced=treated)


def _shape(picture: Any) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
