"""Running jobs for people: progress, Ctrl-C, summaries, the JSON report, the exit code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from streamlight.cli import _console
from streamlight.cli._progress import ProgressDisplay
from streamlight.cli._stopping import stop_on_signal
from streamlight.config import Config
from streamlight.engine import Report
from streamlight.errors import ConfigError, StreamlightError
from streamlight.pipelines.offline import Progress, enhance_many
from streamlight.pipelines.plan import Job
from streamlight.timecode import format_time

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def run_jobs(inputs: Sequence[str], output: str, config: Config, json_target: str | None) -> int:
    """Enhance the inputs and tell how it went; returns the exit code."""
    errors: list[Exception] = []
    quiet = _console.settings.verbosity < 0 or json_target == "-"

    with stop_on_signal() as stop, ProgressDisplay(quiet=quiet) as display:

        def progress(job: Job, moment: Progress) -> None:
            display.update(job.destination.name, moment)

        def finished(job: Job, report: Report, error: Exception | None) -> None:
            display.clear()
            if error is not None:
                errors.append(error)
            _tell(report, error, quiet=quiet)

        reports = enhance_many(inputs, output, config=config, progress=progress, stop=stop, finished=finished)
    batch = len(reports) != 1
    if batch and not quiet:
        _console.say(_summary(reports))
    _console.write_json(
        json_target, {"reports": [report.to_dict() for report in reports]} if batch else reports[0].to_dict()
    )
    if any(report.status == "interrupted" for report in reports) or stop.is_set():
        return INTERRUPTED
    if errors:
        return WRONG_USE if not batch and isinstance(errors[0], ConfigError) else FAILED
    return DONE


def _tell(report: Report, error: Exception | None, *, quiet: bool) -> None:
    if error is not None:
        if _console.settings.debug:
            traceback.print_exception(error)
        known = isinstance(error, StreamlightError)
        _console.error(str(error) if known else f"{report.input}: {_console.internal_error(error)}")
        return
    if report.status == "interrupted":
        _console.error(_how_to_resume(report))
        return
    if quiet:
        return
    frames = report.frames.get("out", 0)
    if report.status == "done":
        _console.say(
            f"{report.output}: {frames} frame{'s' * (frames != 1)} in {format_time(report.wall_seconds)} "
            f"({report.fps:.1f} fps)"
        )
    for loss in report.streams_not_carried:
        _console.say(f"  not carried: {loss['what']}: {loss['why']}")
    for cause, count in report.dropped.items():
        _console.say(f"  dropped: {count} frames: {cause}")
    if report.frames.get("damaged"):
        _console.say(f"  damaged: {report.frames['damaged']} frames")
    for text in report.fallbacks:
        _console.say(f"  fallback: {text}")
    for notice in report.warnings:
        _console.say(f"  note: {notice.message}")
    for stage in report.stages:
        _console.say(
            f"  {stage['name']:<10}busy {stage['busy']:.2f} s, waited for input {stage['wait_in']:.2f} s, "
            f"for output {stage['wait_out']:.2f} s",
            level=1,
        )
    for key, value in report.codecs.items():
        _console.say(f"  {key}: {value}", level=1)


def _how_to_resume(report: Report) -> str:
    kept = report.frames.get("out", 0)
    if not kept:
        return f"{report.output}: interrupted before the first segment was closed; nothing is kept, run it again"
    return f"{report.output}: interrupted, {kept} frames are kept; the same command with --resume continues"


def _summary(reports: Sequence[Report]) -> str:
    counts: dict[str, int] = {}
    for report in reports:
        counts[report.status] = counts.get(report.status, 0) + 1
    text = ", ".join(f"{count} {status.replace('-', ' ')}" for status, count in sorted(counts.items()))
    failed = [report.input for report in reports if report.status == "failed"]
    return f"{len(reports)} files: {text}" + (f" ({', '.join(failed)})" if failed else "")
