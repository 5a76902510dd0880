"""What the child process records into: files, one after another. Runs in the child process."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from streamlight.live import naming
from streamlight.live.encoding import TIME_BASE, LiveEncodeSettings, LiveStream
from streamlight.live.outputs import Nominal, Output, Say
from streamlight.live.ring import FrameShape
from streamlight.media import codecs
from streamlight.media.destination import disk_errors
from streamlight.media.encode import EncoderPlan
from streamlight.media.frame import Frame


class RecordingOutput(Output):
    """Files, one after another. See `record.Recorder` for what the user sees of it."""

    def __init__(
        self,
        pattern: str,
        encode: LiveEncodeSettings,
        nominal: Nominal,
        say: Say,
        *,
        seconds: float | None,
        size: int | None,
        metadata: dict[str, str],
    ) -> None:
        """Nothing is written yet.

        Args:
            pattern: Name pattern for strftime.
            encode: The encoder's settings.
            nominal: What frames do not say.
            say: Tells the parent.
            seconds: Length of a file.
            size: Bytes of a file.
            metadata: Tags for every file.
        """
        super().__init__(encode, nominal, say)
        self._pattern = pattern
        self._ticks = None if seconds is None else round(seconds / TIME_BASE)
        self._size = size
        self._metadata = metadata
        self._encoder: EncoderPlan | None = None
        self._claim: naming.Claim | None = None
        self._searched: set[Path] = set()

    def open(self, shape: FrameShape) -> None:
        """A new shape begins a new file, with its first frame."""
        self.close()
        self._encoder = self._plan(shape, plays_everywhere=False)

    def write(self, frame: Frame, wall_clock: float) -> None:
        """Write one frame, into the next file if this one is full."""
        if self._stream is not None and self._is_full(self._stream, frame.pts):
            self.close()
        if self._encoder is None:
            return
        if self._stream is None:
            self._begin(self._encoder, wall_clock)
        assert self._stream is not None
        with disk_errors(self._path):
            self._stream.write(frame)

    def close(self) -> None:
        """Finish the file at hand and give it its name."""
        stream, claim = self._stream, self._claim
        if stream is None or claim is None:
            return
        with disk_errors(claim.path):
            super().close()
        path = claim.publish()
        self._claim = None
        seconds = float((stream.last_pts - (stream.first_pts or 0)) * TIME_BASE)
        self._say("file", path=os.fspath(path), frames=stream.packets, seconds=seconds, size=path.stat().st_size)

    def abandon(self) -> None:
        """Finish the file at hand if that is still possible; else the next recorder finds it."""
        with contextlib.suppress(Exception):
            self.close()

    @property
    def _path(self) -> Path:
        return self._claim.path if self._claim is not None else Path(self._pattern)

    def _is_full(self, stream: LiveStream, pts: int) -> bool:
        if stream.first_pts is None:
            return False
        long = self._ticks is not None and pts - stream.first_pts >= self._ticks
        return long or (self._size is not None and stream.bytes >= self._size)

    def _begin(self, plan: EncoderPlan, wall_clock: float) -> None:
        """Open the next file."""
        self._claim = naming.claim(self._pattern, wall_clock)
        self._recover(self._claim.path.parent)
        muxer = codecs.muxer_for(self._claim.path)
        options = {"flush_packets": "1"}
        if muxer in ("mp4", "mov"):
            # A fragment every key frame while it grows, an ordinary file once it is closed.
            options |= {"movflags": "+hybrid_fragmented+frag_keyframe", "video_track_timescale": "90000"}
        began = datetime.fromtimestamp(wall_clock, UTC).isoformat(timespec="milliseconds")
        with disk_errors(self._claim.path):
            self._stream = LiveStream(
                f"file:{self._claim.partial}",
                plan,
                format=muxer,
                options=options,
                key_interval=self._encode.key_interval,
                metadata={"creation_time": began} | self._metadata,
            )
        self._tell_live(plan)

    def _recover(self, folder: Path) -> None:
        """Once per folder: what a killed process left there gets its name."""
        if folder in self._searched:
            return
        self._searched.add(folder)
        for path in naming.recover(folder):
            self._say("recovered", path=os.fspath(path))
