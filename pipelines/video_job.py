"""One video file: frames through the enhancer into closed segments, then the join."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from streamlight.config import Config
from streamlight.engine import Pipeline, PipelineStats, Report, Stage
from streamlight.enhance import Enhancer
from streamlight.enhance.compare import compare_planes
from streamlight.errors import ConfigError, MediaError
from streamlight.media import (
    EncodeSettings,
    Frame,
    Position,
    SegmentWriter,
    Source,
    as_path,
    check_codec,
    check_destination,
    default_codec,
    join,
    open_source,
    partial_path,
    plan_encoder,
)
from streamlight.pipelines.building import enhancer_for
from streamlight.pipelines.identity import job_identity
from streamlight.pipelines.journal import (
    Journal,
    UnfinishedJob,
    check_segments,
    differences,
    file_stamp,
    load_arrays,
    work_folder,
)
from streamlight.pipelines.progress import ProgressCallback, ProgressMeter


class VideoJob:
    """Enhances one video file; made for one :meth:`run`.

    Args:
        source: Input file.
        destination: Output file.
        config: The configuration in force.
        report: Filled in on the way.
        progress: Receives how far the job is.
        stop: When set, the job ends cleanly and can be resumed.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        destination: Path,
        config: Config,
        report: Report,
        *,
        progress: ProgressCallback | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._config = config
        self._report = report
        self._progress = progress
        self._stop = stop or threading.Event()
        self._journal = Journal(destination)

    def run(self) -> None:
        """Do the job.

        Raises:
            StreamlightError: As :func:`streamlight.enhance_video` says.
        """
        check_codec(self._encode_settings().codec or default_codec(self._destination), self._destination)
        if self._already_done():
            return
        leftover = work_folder(self._destination).exists()
        # What an unfinished job has to say about an existing output is judged when its journal is open.
        check_destination(
            as_path(self._source), self._destination, overwrite=self._config.run.overwrite or leftover
        )
        enhancer = enhancer_for(self._config)
        try:
            self._journal.acquire()
            try:
                self._work(enhancer)
            finally:
                self._put_away()
        finally:
            enhancer.close()

    def _already_done(self) -> bool:
        """On resume: whether the output is there and nothing is left to do."""
        run = self._config.run
        if not run.resume or run.overwrite or not self._destination.is_file():
            return False
        if work_folder(self._destination).exists():
            return False
        self._report.status = "already-done"
        self._report.warn("already-done", f"{self._destination} exists and no unfinished job is left; nothing to do")
        return True

    def _put_away(self) -> None:
        """Keep the work folder only if there is something in it to resume."""
        try:
            job = self._journal.read()
        except ConfigError:
            self._journal.release()
            return
        if job is None or not (job.segments or job.complete):
            self._journal.remove()
        else:
            self._journal.release()

    def _work(self, enhancer: Enhancer) -> None:
        job = self._begin_or_resume(job_identity(self._source, self._config, enhancer.identity))
        if job.joining is not None and file_stamp(self._destination) not in (None, job.joining[0]):
            # The run before was killed between publishing the output and removing its work folder.
            partial_path(self._destination).unlink(missing_ok=True)
            self._journal.remove()
            self._report.status = "already-done"
            self._report.frames = {"in": job.index + 1, "out": job.index + 1, "resumed": job.index + 1}
            self._report.warn("already-done", f"{self._destination} was complete already")
            return
        check_destination(as_path(self._source), self._destination, overwrite=self._config.run.overwrite)
        self._report.frames["resumed"] = job.index + 1
        settings = self._config.input
        with open_source(
            self._source,
            start=settings.start,
            end=settings.end,
            deinterlace=settings.deinterlace,
            tonemap=settings.tonemap,
            max_damaged=settings.max_damaged,
            threads=settings.decoder_threads,
            resume=Position(job.index, job.segments[-1].last_pts) if job.segments else None,
        ) as source:
            meter = ProgressMeter(self._progress, source.info, start=settings.start, end=settings.end)
            run = _SegmentRun(source, enhancer, job, self._journal, self._config, meter, self._destination)
            if not job.complete:
                try:
                    finished = run.run(self._stop)
                finally:
                    self._account(source, run, job)
                if not finished:
                    self._report.status = "interrupted"
                    return
            else:
                self._account(source, run, job)
            meter.joining()
            self._join(source, job)
        self._journal.remove()
        self._report.status = "done"

    def _begin_or_resume(self, identity: dict[str, Any]) -> UnfinishedJob:
        run = self._config.run
        try:
            job = self._journal.read()
        except ConfigError:
            if run.resume or not run.overwrite:
                raise
            job = None
        if job is not None and (job.segments or job.complete):
            if run.resume:
                return self._checked(job, identity)
            if not run.overwrite:
                raise ConfigError(
                    f"{self._destination}: an unfinished job is there ({job.index + 1} frames done); "
                    "continue it with --resume, or discard it with --overwrite"
                )
        elif run.resume:
            self._report.warn("nothing-to-resume", f"{self._destination}: there was nothing to resume; started afresh")
        self._journal.begin(identity)
        return UnfinishedJob(identity)

    def _checked(self, job: UnfinishedJob, identity: dict[str, Any]) -> UnfinishedJob:
        different = differences(job.identity, identity)
        if different:
            raise ConfigError(
                f"{self._destination}: the unfinished job is another one ({'; '.join(different)}); "
                "repeat it as it was begun, or discard it with --overwrite"
            )
        check_segments(job)
        return job

    def _encode_settings(self) -> EncodeSettings:
        return encode_settings(self._config)

    def _account(self, source: Source, run: _SegmentRun, job: UnfinishedJob) -> None:
        """Take what is known so far into the report."""
        report, info, stats = self._report, source.info, source.stats
        if run.stats is not None:
            report.add_pipeline(run.stats)
        done = job.index + 1
        report.frames |= {"in": report.frames["resumed"] + stats.frames, "out": done, "damaged": job.damaged}
        report.media_seconds = run.media_seconds
        for field in dataclasses.fields(stats):
            value = getattr(stats, field.name)
            if isinstance(value, int) and value and field.name not in ("packets", "frames"):
                report.damage[field.name] = value
        for note in stats.notes:
            report.warn("source", note)
        report.codecs |= {"decoder": info.codec, "input_pix_fmt": info.pix_fmt, "input_container": info.container}
        if job.plan is not None:
            report.codecs |= {"encoder": job.plan.encoder, "output_pix_fmt": job.plan.pix_fmt}
            report.fallbacks += [text for text in job.plan.fallbacks if text not in report.fallbacks]
            for loss in job.plan.losses:
                report.warn("picture", loss)

    def _join(self, source: Source, job: UnfinishedJob) -> None:
        self._journal.mark_joining()
        result = join(
            job.segments,
            self._source,
            self._destination,
            info=source.info,
            overwrite=self._config.run.overwrite,
        )
        report = self._report
        report.streams_carried = [str(item) for item in result.carried]
        report.streams_not_carried = [{"what": item.what, "why": item.why} for item in result.not_carried]


def encode_settings(config: Config) -> EncodeSettings:
    """The part of the configuration that the encoder needs."""
    output = config.output
    return EncodeSettings(
        codec=None if output.codec == "auto" else output.codec,
        quality=output.quality,
        preset=output.encoder_preset,
        hardware=output.hardware,
    )


class _SegmentRun:
    """The pipeline of a job: source, enhance, and a sink that writes closed segments."""

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
            self._source.frames(),
            [Stage("enhance", self._enhance, queue), Stage("encode", self._write, queue)],
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
        output = self._config.output
        state = self._enhancer.new_state()
        if self._job.checkpoint is not None:
            state = self._enhancer.restore(load_arrays(self._job.checkpoint))
        for frame in frames:
            before = frame.planes
            self._enhancer([frame], [state])
            if output.compare:
                frame.planes = compare_planes(before, frame.planes, frame.color, layout=output.compare_layout)
            if (frame.index + 1) % output.segment_frames == 0:
                frame.notes["checkpoint"] = self._enhancer.snapshot(state)
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

    def _plan(self, frame: Frame) -> Any:
        """The encoder plan of the job, made from its first frame."""
        if self._job.plan is None:
            info = self._source.info
            plan = plan_encoder(
                encode_settings(self._config),
                frame,
                container=self._destination,
                sample_aspect=info.sample_aspect,
                rate=info.average_rate,
            )
            self._journal.add_plan(plan)
            self._job.plan = plan
        return self._job.plan
