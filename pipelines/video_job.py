"""One video file: frames through the enhancer into closed segments, then the join."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

from streamlight.pipelines.identity import job_identity
from streamlight.pipelines.journal import (
    Journal,
    UnfinishedJob,
    check_segments,
    differences,
    file_stamp,
)
from streamlight.pipelines.progress import ProgressCallback, ProgressMeter
from streamlight.pipelines.segment_run import SegmentRun, encode_settings

from streamlight.config import Config
from streamlight.engine import Report
from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError
from streamlight.media import (
    Position,
    Source,
    as_path,
    check_codec,
    check_destination,
    default_codec,
    join,
    open_source,
    partial_path,
)


class VideoJob:
    """Enhances one video file; made for one :meth:`run`.

    Args:
        source: Input file.
        destination: Output file.
        config: The configuration in force.
        enhancer: Made for that configuration; is not closed.
        report: Filled in on the way.
        progress: Receives how far the job is.
        stop: When set, the job ends cleanly and can be resumed.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        destination: Path,
        config: Config,
        enhancer: Enhancer,
        report: Report,
        *,
        progress: ProgressCallback | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._config = config
        self._enhancer = enhancer
        self._report = report
        self._progress = progress
        self._stop = stop or threading.Event()
        self._journal = Journal(destination)

    def run(self) -> None:
        """Do the job.

        Raises:
            StreamlightError: As :func:`streamlight.enhance_video` says.
        """
        check_codec(encode_settings(self._config).codec or default_codec(self._destination), self._destination)
        run = self._config.run
        # On resume the journal has a say on what an existing output is.
        check_destination(as_path(self._source), self._destination, overwrite=run.overwrite or run.resume)
        self._journal.acquire()
        try:
            self._work()
        finally:
            self._put_away()

    def _put_away(self) -> None:
        """After an early end: keep the work folder only if there is something in it to resume."""
        if not self._journal.held:
            return
        try:
            job = self._journal.read()
        except ConfigError:
            self._journal.release()
            return
        if job is None or not (job.segments or job.complete):
            self._journal.remove()
        else:
            self._journal.release()

    def _work(self) -> None:
        identity = job_identity(self._source, self._config, self._enhancer.identity)
        job = self._begin_or_resume(identity)
        if job is None:
            self._report.status = "already-done"
            self._report.warn("already-done", f"{self._destination} is there and complete; nothing was left to do")
            self._journal.remove()
            return
        check_destination(as_path(self._source), self._destination, overwrite=self._config.run.overwrite)
        self._report.frames["resumed"] = job.index + 1
        settings, link = self._config.input, self._enhancer.link
        with open_source(
            self._source,
            start=settings.start,
            end=settings.end,
            deinterlace=settings.deinterlace,
            tonemap=settings.tonemap,
            max_damaged=settings.max_damaged,
            threads=settings.decoder_threads,
            hardware=settings.hardware_decode,
            device=0 if link is None else link.device.index or 0,
            surfaces=link is not None,
            resume=Position(job.index, job.segments[-1].last_pts) if job.segments else None,
        ) as source:
            meter = ProgressMeter(self._progress, source.info, start=settings.start, end=settings.end)
            run = SegmentRun(source, self._enhancer, job, self._journal, self._config, meter, self._destination)
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
            self._join(source, job, turned=run.quarter_turns != 0)
        self._journal.remove()
        self._report.status = "done"

    def _begin_or_resume(self, identity: dict[str, Any]) -> UnfinishedJob | None:
        """The job to work on; None if, on resume, there is nothing left to do."""
        run = self._config.run
        try:
            job = self._journal.read()
        except ConfigError:
            if run.resume or not run.overwrite:
                raise
            job = None
        if job is not None and (job.segments or job.complete):
            if run.resume:
                return None if self._published(job) else self._checked(job, identity)
            if not run.overwrite:
                raise ConfigError(
                    f"{self._destination}: an unfinished job is there ({job.index + 1} frames done); "
                    "continue it with --resume, or discard it with --overwrite"
                )
        elif run.resume:
            if self._destination.is_file() and not run.overwrite:
                return None
            self._report.warn("nothing-to-resume", f"{self._destination}: there was nothing to resume; started afresh")
        self._journal.begin(identity)
        return UnfinishedJob(identity)

    def _published(self, job: UnfinishedJob) -> bool:
        """Whether the run before was killed between publishing the output and removing its work folder."""
        if job.joining is None or file_stamp(self._destination) in (None, job.joining[0]):
            return False
        partial_path(self._destination).unlink(missing_ok=True)
        self._report.frames = {"in": job.index + 1, "out": job.index + 1, "resumed": job.index + 1}
        return True

    def _checked(self, job: UnfinishedJob, identity: dict[str, Any]) -> UnfinishedJob:
        different = differences(job.identity, identity)
        if different:
            raise ConfigError(
                f"{self._destination}: the unfinished job is another one ({'; '.join(different)}); "
                "repeat it as it was begun, or discard it with --overwrite"
            )
        check_segments(job)
        return job

    def _account(self, source: Source, run: SegmentRun, job: UnfinishedJob) -> None:
        """Take what is known so far into the report."""
        report, info, stats = self._report, source.info, source.stats
        if run.stats is not None:
            report.add_pipeline(run.stats)
        done = job.index + 1
        report.frames |= {"in": report.frames["resumed"] + stats.frames, "out": done, "damaged": job.damaged}
        report.media_seconds = run.media_seconds
        report.device = {} if self._enhancer.link is None else self._enhancer.link.account()
        fallbacks = [*stats.fallbacks, *self._enhancer.fallbacks]
        report.fallbacks += [text for text in fallbacks if text not in report.fallbacks]
        for field in dataclasses.fields(stats):
            value = getattr(stats, field.name)
            if isinstance(value, int) and value and field.name not in ("packets", "frames"):
                report.source[field.name] = value
        for note in stats.notes:
            report.warn("source", note)
        report.codecs |= {"decoder": info.codec, "input_pix_fmt": info.pix_fmt, "input_container": info.container}
        if job.plan is not None:
            report.codecs |= {"encoder": job.plan.encoder, "output_pix_fmt": job.plan.pix_fmt}
            report.fallbacks += [text for text in job.plan.fallbacks if text not in report.fallbacks]
            for loss in job.plan.losses:
                report.warn("picture", loss)

    def _join(self, source: Source, job: UnfinishedJob, *, turned: bool) -> None:
        self._journal.mark_joining()
        result = join(
            job.segments,
            self._source,
            self._destination,
            info=source.info,
            overwrite=self._config.run.overwrite,
            pixels_turned=turned,
        )
        report = self._report
        report.codecs["output_container"] = result.container
        for stream in result.carried:
            language = f", {stream.language}" if stream.language else ""
            report.streams_carried.append(
                f"{stream.kind} stream {stream.index} ({stream.codec}{language}), {stream.packets} packets"
            )
            for count, what in ((stream.dropped, "refused by the container"), (stream.repaired, "with repaired times")):
                if count:
                    report.warn("packets", f"{stream.kind} stream {stream.index}: {count} packets {what}")
        report.streams_not_carried = [{"what": item.what, "why": item.why} for item in result.not_carried]
        for loss in result.losses:
            report.warn("output", loss)
        if result.time_error:
            report.warn("timestamps", f"rounded by at most {float(result.time_error) * 1e6:.0f} µs: {result.container}")
