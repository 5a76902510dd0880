"""Files in, files out: one video or image, or many."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from streamlight.pipelines.building import enhancer_for, one_per_device
from streamlight.pipelines.dashcam import joined, plan_recordings
from streamlight.pipelines.identity import versions
from streamlight.pipelines.image_job import ImageJob
from streamlight.pipelines.plan import Job, plan_jobs
from streamlight.pipelines.progress import Progress, ProgressCallback
from streamlight.pipelines.video_job import VideoJob

from streamlight.config import Config, load_config
from streamlight.engine import Report, peak_memory
from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError, MediaError, StreamlightError
from streamlight.media import as_path, is_image_name, probe, redact

__all__ = ["Progress", "enhance_many", "enhance_video"]


def enhance_video(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    config: Config | str | os.PathLike[str] | None = None,
    preset: str | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
    **options: Any,
) -> Report:
    """Enhance a video or image file.

    Every frame, timestamp, audio packet, subtitle and tag goes into the output, or the report names what did not.
    The output appears under its name only when it is complete. Until then the job lies in ``<dst>.streamlight/``, from
    where ``resume=True`` continues it after an interruption.

    Args:
        src: Input file.
        dst: Output file; its suffix chooses the container or image format.
        config: A configuration, or a YAML file with one.
        preset: Name of a preset that comes with the package.
        progress: Called from a worker thread, at most ten times a second.
        stop: When set, the job ends soon and cleanly; the report's status is then ``"interrupted"``.
        options: Single options by name, for example ``strength=0.5, codec="hevc", overwrite=True``; they win over
            ``config`` and ``preset``. See :func:`streamlight.config.options`.

    Raises:
        ConfigError: A setting is wrong, or an unfinished job does not match this one.
        MediaError: The input cannot be read or the output cannot be written.
        ModelError: The model cannot be loaded.
        DeviceError: The device is not available.
    """
    settings = _configuration(config, preset, options)
    report = new_report(Job(Path(src), Path(dst)), settings)
    with closing(enhancer_for(settings)) as enhancer:
        run_job(src, Path(dst), settings, enhancer, report, progress=progress, stop=stop)
    return report


def enhance_many(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    config: Config | None = None,
    progress: Callable[[Job, Progress], None] | None = None,
    stop: threading.Event | None = None,
    finished: Callable[[Job, Report, Exception | None], None] | None = None,
) -> list[Report]:
    """Enhance files and folders one after another, on several devices side by side; a bad one stops no other.

    Args:
        inputs: Files and folders (:func:`~streamlight.pipelines.plan.plan_jobs` says what goes where).
        output: File for a single input, else a folder, which is made if it does not exist.
        config: The configuration; the defaults if None.
        progress: Called with the job at hand and how far it is, from several threads where there are several devices.
        stop: When set, the job at hand ends cleanly and the rest is left undone.
        finished: Called after every job, one at a time, with the error if it failed.

    Returns:
        One report per job that was begun; failed ones have status ``"failed"`` and say why.

    Raises:
        ConfigError: The inputs cannot be matched to outputs, or there is no such model.
        MediaError: The output folder cannot be made.
        ModelError: The model cannot be loaded.
        DeviceError: The device is not available.
    """
    settings = config or Config()
    plan = plan_recordings(inputs, output) if settings.input.join else plan_jobs(inputs, output)
    stop = stop or threading.Event()
    batch = _Batch(plan.jobs, settings, progress=progress, stop=stop, finished=finished)
    with ExitStack() as stack:
        enhancers = [stack.enter_context(closing(enhancer_for(one))) for one in one_per_device(settings)]
        stack.enter_context(_folder(plan.folder))
        if len(enhancers) == 1:
            batch.work(enhancers[0])
        else:
            with ThreadPoolExecutor(len(enhancers), thread_name_prefix="streamlight-device") as pool:
                for done in [pool.submit(batch.work, enhancer) for enhancer in enhancers]:
                    done.result()
    return batch.reports


class _Batch:
    """Jobs of which each device takes the next as soon as it has time."""

    def __init__(
        self,
        jobs: Sequence[Job],
        config: Config,
        *,
        progress: Callable[[Job, Progress], None] | None,
        stop: threading.Event,
        finished: Callable[[Job, Report, Exception | None], None] | None,
    ) -> None:
        self._waiting = iter(jobs)
        self._config, self._progress, self._stop, self._finished = config, progress, stop, finished
        self._lock = threading.Lock()
        self.reports: list[Report] = []

    def work(self, enhancer: Enhancer) -> None:
        """Do jobs until none is left."""
        while (taken := self._next()) is not None:
            job, report = taken
            error: Exception | None = None
            try:
                if job.problem is not None:
                    raise job.problem
                moments = _bound(self._progress, job)
                with joined(job) as source:
                    run_job(source, job.destination, self._config, enhancer, report, progress=moments, stop=self._stop)
            except Exception as problem:  # also what nobody foresaw: the next file may well go through
                error = problem
                report.error = report.error or str(problem)
            if self._finished is not None:
                with self._lock:
                    self._finished(job, report, error)

    def _next(self) -> tuple[Job, Report] | None:
        with self._lock:
            job = None if self._stop.is_set() else next(self._waiting, None)
            if job is None:
                return None
            report = new_report(job, self._config)
            self.reports.append(report)
            return job, report


def _bound(progress: Callable[[Job, Progress], None] | None, job: Job) -> ProgressCallback | None:
    return None if progress is None else lambda moment: progress(job, moment)


@contextlib.contextmanager
def _folder(folder: Path | None) -> Iterator[None]:
    """Make the output folder and its parents; remove at the end those that nothing came into."""
    missing = [] if folder is None else [path for path in (folder, *folder.parents) if not path.exists()]
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{folder}: cannot be made ({error.strerror or error}); choose another folder") from error
    try:
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # holds results
                path.rmdir()


def _configuration(
    config: Config | str | os.PathLike[str] | None, preset: str | None, options: dict[str, Any]
) -> Config:
    if isinstance(config, Config):
        return load_config(base=config, preset=preset, values=options)
    return load_config(preset=preset, file=None if config is None else Path(config), values=options)


def new_report(job: Job, config: Config) -> Report:
    """The report of a job that has not begun."""
    report = Report(
        input=redact(job.source),
        output=str(job.destination),
        settings=config.model_dump(mode="json"),
        versions=versions(),
    )
    if job.remark is not None:
        report.warn("output-renamed", job.remark)
    if job.parts:
        names = f"{job.parts[0].name} to {job.parts[-1].name}"
        report.warn("joined", f"joined from {len(job.parts)} files, {names}; tags of the files are not carried")
    return report


def run_job(
    source: str | os.PathLike[str],
    destination: Path,
    config: Config,
    enhancer: Enhancer,
    report: Report,
    *,
    progress: ProgressCallback | None,
    stop: threading.Event | None,
) -> None:
    """Do one job and fill in its report, also when it fails.

    Args:
        source: The input.
        destination: The output file.
        config: The configuration in force.
        enhancer: Made for that configuration; is not closed.
        report: From :func:`new_report`.
        progress: See :func:`enhance_video`.
        stop: See there.

    Raises:
        StreamlightError: As :func:`enhance_video` says.
    """
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        _refuse_pipe(source)
        is_image = probe(source).is_image
        if is_image != is_image_name(destination):
            kinds = ("an image", "a video") if is_image else ("a video", "an image")
            raise ConfigError(f"'{redact(source)}' is {kinds[0]}, but {destination.name} would be {kinds[1]} file")
        if is_image:
            ImageJob(source, destination, config, enhancer, report).run()
        else:
            VideoJob(source, destination, config, enhancer, report, progress=progress, stop=stop).run()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            report.status = "interrupted"
        report.error = str(error) if isinstance(error, StreamlightError) else f"{type(error).__name__}: {error}"
        raise
    finally:
        gc.collect()  # codecs and pictures hang in reference cycles; a batch must not pile them up
        report.wall_seconds = time.perf_counter() - begin
        report.cpu_seconds = time.process_time() - cpu
        report.peak_memory_bytes = peak_memory()
        written = report.frames.get("out", 0) - report.frames.get("resumed", 0)
        report.fps = written / report.wall_seconds if report.wall_seconds > 0 else 0.0


def _refuse_pipe(source: str | os.PathLike[str]) -> None:
    """A job reads its input several times: to look at it, for the picture, for the other streams, and to resume."""
    path = as_path(source)
    if path is not None and path.exists() and not (path.is_file() or path.is_dir()):
        raise MediaError(f"'{path}' is a pipe or a device, which can be read only once; save it to a file first")
