"""The pipeline of a video job: decode, enhance, and a sink that writes closed segments."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from streamlight.pipelines.journal import Journal, UnfinishedJob, load_arrays
from streamlight.pipelines.progress import ProgressMeter

from streamlight.config import Config
from streamlight.engine import Pipeline, PipelineStats, Stage, across
from streamlight.enhance import Enhancer
from streamlight.enhance.compare import compare_planes
from streamlight.enhance.highlights import protect_highlights
from streamlight.errors import MediaError
from streamlight.media import (
    EncoderPlan,
    EncodeSettings,
    Frame,
    SegmentWriter,
    Source,
    Surface,
    keeps_rotation,
    plan_encoder,
    takes_device_frames,
)
from streamlight.media.frame import ChromaLayout


def encode_settings(config: Config) -> EncodeSettings:
    """The part of the configuration that the encoder needs."""
    output = config.output
    return EncodeSettings(
        codec=None if output.codec == "auto" else output.codec,
        quality=output.quality,
        preset=output.encoder_preset,
        hardware=output.hardware,
    )


def turn_frame(frame: Frame, quarter_turns: int) -> None:
    """Turn a frame's planes by quarter turns counter-clockwise; 4:2:2 lying on its side is 4:4:0."""
    if quarter_turns == 0:
        return
    frame.planes = tuple(np.ascontiguousarray(np.rot90(plane, quarter_turns)) for plane in frame.planes)
    swapped: dict[str, ChromaLayout] = {"422": "440", "440": "422"}
    if quarter_turns % 2 and frame.color.chroma in swapped:
        frame.color = dataclasses.replace(frame.color, chroma=swapped[frame.color.chroma])


class SegmentRun:
    """The pipeline of a job: source, enhance, and a sink that writes closed segments.

    Args:
        source: Open source, behind what is done already.
        enhancer: Makes the frames brighter.
        job: What is done already; grows with every closed segment.
        journal: Where closed segments are recorded.
        config: The configuration in force.
        meter: Is told of every frame done.
        destination: The output file; decides what its container can say.

    Attributes:
        media_seconds: Seconds of video done by this run.
        quarter_turns: Turns counter-clockwise that the frames get because the container cannot say it.
    """

    def __init__(
        self,
        source: Source,
        enhancer: Enhancer,
        job: UnfinishedJob,
        journal: Journal,
        config: Config,
        meter: ProgressMeter,
        destination: Path,
    ) -> None:
        self._source = source
        self._enhancer = enhancer
        self._job = job
        self._journal = journal
        self._config = config
        self._meter = meter
        self._destination = destination
        self._pipeline: Pipeline | None = None
        self.media_seconds = 0.0
        self._beside = config.model.highlights > 0.0 or config.output.compare
        # A container that cannot say "turn me" gets a turned picture.
        rotation = source.info.rotation
        self.quarter_turns = 0 if keeps_rotation(destination) else rotation // 90 % 4

    @property
    def stats(self) -> PipelineStats | None:
        """Figures of the run, also of one that failed."""
        return self._pipeline.stats if self._pipeline is not None else None

    def run(self, stop: threading.Event) -> bool:
        """Run to the end of the input.

        Returns:
            False if ``stop`` ended it before.

        Raises:
            StreamlightError: What the first failing stage raised.
        """
        queue = self._config.run.queue_frames
        self._pipeline = Pipeline(
            self._decoded(),
            [
                *across(
                    Stage("enhance", self._enhance, queue), self._enhancer.link, back=self._back, then=self._finish
                ),
                Stage("encode", self._write, queue),
            ],
            stop=stop,
            arrival=lambda frame: cast(Frame, frame).arrival,
            source_name="decode",
        )
        if self._pipeline.run().stopped:
            return False
        if not self._job.segments:
            raise MediaError(f"'{self._source.info.url}': no picture lies in the chosen stretch")
        self._journal.mark_complete()
        self._job.complete = True
        return True

    def _enhance(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Enhance frame by frame; the last of each segment takes along the state to go on from."""
        state = self._enhancer.new_state()
        if self._job.checkpoint is not None:
            state = self._enhancer.restore(load_arrays(self._job.checkpoint))
        for frame in frames:
            self._enhancer([frame], [state])
            if (frame.index + 1) % self._config.output.segment_frames == 0:
                frame.notes["checkpoint"] = self._enhancer.snapshot(state)
            yield frame

    def _back(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """From the device to the host, unless the encoder is on the device and the host has nothing to do before."""
        link = self._enhancer.link
        first = next(frames, None)
        if first is None or link is None:
            return
        on_host = self._beside or self.quarter_turns != 0
        direct = not on_host and not link.device.index and takes_device_frames(self._plan(first))
        yield from (link.pack if direct else link.download)(chain([first], frames))

    def _finish(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """What is done with frames on the host, with the planes as they were decoded beside them."""
        output = self._config.output
        for frame in frames:
            before = frame.notes.pop("before", None)
            if before is not None:
                protect_highlights(frame, before, amount=self._config.model.highlights)
                if output.compare:
                    frame.planes = compare_planes(before, frame.planes, frame.color, layout=output.compare_layout)
            turn_frame(frame, self.quarter_turns)
            yield frame

    def _decoded(self) -> Iterator[Frame]:
        """Frames of the source, with their planes once more where they are wanted beside the result."""
        for frame in self._source.frames():
            if self._beside:
                surface = frame.planes if isinstance(frame.planes, Surface) else None
                frame.notes["before"] = frame.planes if surface is None else surface.to_host()
            yield frame

    def _write(self, frames: Iterator[Frame]) -> Iterator[int]:
        """Write closed segments; one that the input did not fill is kept only at the input's true end.

        Borders lie at fixed frame numbers and every segment has a fresh encoder. That is why a resumed job gives the
        same bits: it repeats the segment it was killed in from its first frame.
        """
        writer: SegmentWriter | None = None
        damaged, last = self._job.damaged, None
        try:
            for frame in frames:
                if writer is None:
                    writer = SegmentWriter(self._journal.segment_path(len(self._job.segments)), self._plan(frame))
                writer.write(frame)
                damaged += frame.damaged
                last = frame.index
                self.media_seconds += float(frame.duration * frame.time_base)
                self._meter.frame(frame)
                checkpoint = frame.notes.pop("checkpoint", None)
                if checkpoint is not None:
                    self._close(writer, last, damaged, checkpoint)
                    writer = None
                yield frame.index
            assert self._pipeline is not None
            if writer is not None and last is not None and not self._pipeline.stats.stopped:
                self._close(writer, last, damaged, None)
                writer = None
        finally:
            if writer is not None:
                writer.abort()

    def _close(self, writer: SegmentWriter, index: int, damaged: int, checkpoint: dict[str, Any] | None) -> None:
        segment = writer.close()
        number = len(self._job.segments)
        self._journal.add_segment(number, segment, index=index, damaged=damaged, checkpoint=checkpoint)
        self._job.segments.append(segment)
        self._job.index, self._job.damaged = index, damaged

    def _plan(self, frame: Frame) -> EncoderPlan:
        """The encoder plan of the job, made from its first frame."""
        if self._job.plan is None:
            info = self._source.info
            aspect = 1 / info.sample_aspect if self.quarter_turns % 2 else info.sample_aspect
            plan = plan_encoder(
                encode_settings(self._config),
                frame,
                container=self._destination,
                sample_aspect=aspect,
                rate=info.average_rate,
            )
            self._journal.add_plan(plan)
            self._job.plan = plan
        return self._job.plan
