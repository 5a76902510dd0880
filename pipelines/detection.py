"""Files in, detections out; and, if asked for, the enhanced video with boxes drawn on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from streamlight.pipelines.building import enhancer_for
from streamlight.pipelines.journal import Journal
from streamlight.pipelines.offline import Progress, new_report, run_job
from streamlight.pipelines.plan import Job, plan_jobs
from streamlight.pipelines.progress import ProgressMeter

from streamlight.config import Config
from streamlight.detect import Detector, EventSink, Observer, load_detector
from streamlight.engine import Pipeline, Report, Stage
from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError, MediaError
from streamlight.media import Frame, list_inputs, open_source, probe, redact
from streamlight.temporal import StreamState

__all__ = ["DetectReport", "Progress", "detect_files", "detector_for"]

PATIENCE = 60.0
"""Seconds that a file waits for room in a full sink, before events are dropped and counted."""

LAST_EVENTS = 1.0
"""Seconds for the last events of a file to arrive before its figures are taken; later ones still go out."""


@dataclass(slots=True)
class DetectReport(Report):
    """The account of one file.

    Attributes:
        detection: What the detector is, at how many pictures it looked, and what it found.
    """

    detection: dict[str, Any] = field(default_factory=dict)


class ObservedEnhancer(Enhancer):
    """An enhancer whose frames are shown to an observer, before and after.

    Args:
        inner: Does the work; is not closed by this one.
        observer: Looks, and draws.
        camera: What the stream is called.
    """

    def __init__(self, inner: Enhancer, observer: Observer, *, camera: str) -> None:
        super().__init__(inner.model, inner.settings)
        self._inner, self._observer, self._camera = inner, observer, camera

    @property
    def identity(self) -> dict[str, Any]:
        """The boxes are part of the picture."""
        return self._inner.identity | {"detector": self._observer.detector.describe()}

    @property
    def fallbacks(self) -> list[str]:
        """See :attr:`Enhancer.fallbacks`."""
        return self._inner.fallbacks

    def new_state(self) -> StreamState:
        """See :meth:`Enhancer.new_state`."""
        return self._inner.new_state()

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """See :meth:`Enhancer.snapshot`."""
        return self._inner.snapshot(state)

    def restore(self, arrays: dict[str, np.ndarray]) -> StreamState:
        """See :meth:`Enhancer.restore`."""
        return self._inner.restore(arrays)

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        for frame in frames:
            self._observer.before(frame, camera=self._camera)
        done = self._inner(frames, states)
        for frame in done:
            self._observer.after(frame, camera=self._camera)
        return done


def detector_for(config: Config) -> Detector:
    """The detector that the configuration asks for; ``motion`` if it asks for none.

    Raises:
        ConfigError, ModelError, DeviceError: As :func:`streamlight.detect.load_detector`.
    """
    settings = config.detect
    return load_detector(
        settings.model or "motion",
        device=config.model.devices[0],
        names=settings.names,
        threshold=settings.threshold,
    )


def detect_files(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    config: Config | None = None,
    detector: Detector | None = None,
    sinks: Sequence[EventSink] = (),
    output: str | os.PathLike[str] | None = None,
    empty: bool = False,
    progress: Callable[[str, Progress], None] | None = None,
    stop: threading.Event | None = None,
    finished: Callable[[DetectReport, Exception | None], None] | None = None,
) -> list[DetectReport]:
    """Detect in files and folders, one after another, on every frame; a bad file does not stop the others.

    Args:
        inputs: Videos, images and folders of them.
        config: The configuration; the sections ``model`` and ``detect`` matter. The defaults if None.
        detector: In place of the one that the configuration asks for; is not closed.
        sinks: Told of what is found; not closed. Events bear the name of the file as that of the camera.
        output: File for a single input, else a folder: gets the enhanced pictures with boxes, and all that
            :func:`streamlight.enhance_video` keeps.
        empty: Whether frames in which nothing was found are told too.
        progress: Called with the name of the file and how far it is.
        stop: When set, the file at hand ends soon and the rest is left undone.
        finished: Called after every file, with the error if it failed.

    Returns:
        One report per file that was begun; failed ones have status ``"failed"`` and say why.

    Raises:
        ConfigError: The inputs cannot be matched to outputs, or a setting is wrong.
        MediaError: An input does not exist, or the output folder cannot be made.
        ModelError: A model or detector cannot be loaded.
        DeviceError: The device is not there.
    """
    settings, stop = config or Config(), stop or threading.Event()
    jobs = _jobs(inputs, output)
    finder = detector or detector_for(settings)
    reports: list[DetectReport] = []
    try:
        with ExitStack() as stack:
            enhancer = None
            if output is not None or settings.detect.pictures != "raw":
                enhancer = stack.enter_context(closing(enhancer_for(settings)))
            for job, drawn in jobs:
                if stop.is_set():
                    break
                observer = Observer(
                    finder, sinks, on=settings.detect.pictures, draw=drawn, empty=empty, patience=PATIENCE
                )
                work = _Work(job, drawn, settings, enhancer, observer, stop)
                error = work.run(progress)
                reports.append(work.report)
                if finished is not None:
                    finished(work.report, error)
    finally:
        if detector is None:
            finder.close()
    return reports


def _jobs(inputs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str] | None) -> list[tuple[Job, bool]]:
    """The files, and whether something is drawn."""
    if output is None:
        if not inputs:
            raise ConfigError("no input given")
        return [(Job(source, Path()), False) for given in inputs for source in list_inputs(given)]
    plan = plan_jobs(inputs, output)
    if plan.folder is not None:
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{plan.folder}: cannot be made ({error.strerror or error})") from error
    return [(job, True) for job in plan.jobs]


class _Work:
    """One file."""

    def __init__(
        self,
        job: Job,
        drawn: bool,
        config: Config,
        enhancer: Enhancer | None,
        observer: Observer,
        stop: threading.Event,
    ) -> None:
        self._job, self._drawn, self._config = job, drawn, config
        self._enhancer, self._observer, self._stop = enhancer, observer, stop
        self._camera = redact(Path(job.source).name if isinstance(job.source, Path) else job.source)
        base = new_report(job, config)
        self.report = DetectReport(
            input=base.input,
            output=base.output if drawn else None,
            settings=base.settings,
            versions=base.versions,
            warnings=base.warnings,
        )

    def run(self, progress: Callable[[str, Progress], None] | None) -> Exception | None:
        """Do it; returns what went wrong."""
        tell = None if progress is None else (lambda moment: progress(self._camera, moment))
        try:
            if self._job.problem is not None:
                raise self._job.problem
            if self._drawn:
                assert self._enhancer is not None
                self._observer.turns = probe(self._job.source).rotation // 90 % 4
                watched = ObservedEnhancer(self._enhancer, self._observer, camera=self._camera)
                run_job(
                    self._job.source, self._job.destination, self._config, watched, self.report,
                    progress=tell, stop=self._stop,
                )  # fmt: skip
                if self.report.status == "interrupted":
                    self._discard()
            else:
                self._look(tell)
        except Exception as error:  # also what nobody foresaw: the next file may well go through
            self.report.error = self.report.error or str(error)
            return error
        finally:
            self._observer.forget(self._camera)
            self._observer.flush(LAST_EVENTS)
            self.report.detection = self._observer.to_json()
            self.report.fallbacks += self.report.detection["detector"]["fallbacks"]
        return None

    def _discard(self) -> None:
        """Nobody continues half a detection: what the detector remembered is gone."""
        journal = Journal(self._job.destination)
        journal.acquire()
        journal.remove()
        self.report.frames["out"] = 0

    def _look(self, tell: Callable[[Progress], None] | None) -> None:
        """Nothing is written; frames are enhanced if the detector wants to see that."""
        settings = self._config.input
        with open_source(
            self._job.source,
            start=settings.start,
            end=settings.end,
            deinterlace=settings.deinterlace,
            tonemap=settings.tonemap,
            max_damaged=settings.max_damaged,
            threads=settings.decoder_threads,
        ) as source:
            self._observer.turns = source.info.rotation // 90 % 4
            meter = ProgressMeter(tell, source.info, start=settings.start, end=settings.end)
            enhancer = self._enhancer
            state = None if enhancer is None else enhancer.new_state()

            def look(frames: Iterator[Frame]) -> Iterator[int]:
                for frame in frames:
                    self._observer.before(frame, camera=self._camera)
                    if enhancer is not None and state is not None:
                        enhancer([frame], [state])
                        self._observer.after(frame, camera=self._camera)
                    meter.frame(frame)
                    yield frame.index

            pipeline = Pipeline(
                source.frames(),
                [Stage("detect", look, self._config.run.queue_frames)],
                stop=self._stop,
                source_name="decode",
            )
            stats = pipeline.run()
            self.report.add_pipeline(stats)
            self.report.wall_seconds = stats.wall
            self.report.frames = {"in": source.stats.frames, "damaged": source.stats.damaged_frames}
            self.report.fps = source.stats.frames / stats.wall if stats.wall > 0 else 0.0
            for note in source.stats.notes:
                self.report.warn("source", note)
            self.report.status = "interrupted" if stats.stopped else "done"
