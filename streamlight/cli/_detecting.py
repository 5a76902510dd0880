"""Detecting in files for people: sinks, progress, Ctrl-C, the summary, the exit code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import ExitStack

from streamlight.cli import _console
from streamlight.cli._jobs import DONE, FAILED, INTERRUPTED, WRONG_USE
from streamlight.cli._progress import ProgressDisplay
from streamlight.cli._stopping import stop_on_signal
from streamlight.config import Config
from streamlight.detect import EventSink, open_sink
from streamlight.errors import ConfigError, StreamlightError
from streamlight.media import check_destination
from streamlight.media.urls import is_url
from streamlight.pipelines.detection import DetectReport, Progress, detect_files
from streamlight.timecode import format_time

_LAST_EVENTS = 30.0
"""Seconds that sinks get at the end to deliver what waits."""


def run_detection(
    inputs: Sequence[str], output: str | None, config: Config, *, empty: bool, json_target: str | None
) -> int:
    """Detect in the inputs and tell how it went; returns the exit code."""
    targets = config.detect.events or ("-",)
    if json_target == "-" and "-" in targets:
        raise ConfigError("the report and the events cannot both go to stdout; give --events or --json a file")
    quiet = _console.settings.verbosity < 0
    errors: list[Exception] = []
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        sinks: list[EventSink] = []
        for target in targets:
            if target != "-" and not is_url(target):
                check_destination(None, target, overwrite=config.run.overwrite)
            sinks.append(open_sink(target, overwrite=True))
            stack.callback(sinks[-1].close, 0.0)  # only if something fails
        display = stack.enter_context(ProgressDisplay(quiet=quiet))

        def progress(name: str, moment: Progress) -> None:
            display.update(name, moment)

        def finished(report: DetectReport, error: Exception | None) -> None:
            display.clear()
            if error is not None:
                errors.append(error)
            _tell(report, error)

        reports = detect_files(
            inputs,
            config=config,
            sinks=sinks,
            output=output,
            empty=empty,
            progress=progress,
            stop=stop,
            finished=finished,
        )
        lost = _close(sinks)
    _console.write_json(json_target, {"reports": [report.to_dict() for report in reports]})
    if stop.is_set():
        return INTERRUPTED
    if errors:
        return WRONG_USE if len(reports) == 1 and isinstance(errors[0], ConfigError) else FAILED
    return FAILED if lost else DONE


def _tell(report: DetectReport, error: Exception | None) -> None:
    if error is not None:
        if _console.settings.debug:
            traceback.print_exception(error)
        known = isinstance(error, StreamlightError)
        _console.error(str(error) if known else f"{report.input}: {_console.internal_error(error)}")
        return
    looks, found = report.detection["looks"], report.detection["found"]
    told = []
    for picture in sorted(looks):
        labels = report.detection["labels"].get(picture, {})
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(labels.items(), key=lambda item: -item[1])[:5])
        told.append(f"{found[picture]} detections on {looks[picture]} {picture} frames" + (f" ({kinds})" * bool(kinds)))
    _console.say(f"{report.input}: {'; '.join(told) or 'nothing looked at'} in {format_time(report.wall_seconds)}")
    for text in report.fallbacks:
        _console.say(f"  fallback: {text}")
    for notice in report.warnings:
        _console.say(f"  note: {notice.message}")


def _close(sinks: Sequence[EventSink]) -> int:
    """Deliver what waits; tells of what could not be, and returns how much that is."""
    lost = 0
    for sink in sinks:
        sink.close(_LAST_EVENTS)
        stats = sink.stats
        for cause, count in stats.dropped.items():
            lost += count
            fault = f" ({stats.fault})" if stats.fault else ""
            _console.error(f"{sink.name}: {count} events were not delivered: {cause}{fault}")
    return lost
