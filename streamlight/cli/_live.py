"""Running cameras for people: logs, Ctrl-C and SIGTERM, a summary, the JSON report, the exit code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from streamlight.cameras import load_cameras
from streamlight.cli import _console
from streamlight.cli._stopping import stop_on_signal
from streamlight.live.logs import start_logging
from streamlight.pipelines.live_report import LiveReport
from streamlight.pipelines.surveillance import run_live

DONE, FAILED = 0, 1


def run_cameras(
    urls: Sequence[str],
    preset: str | None,
    config_file: str | None,
    values: dict[str, Any],
    json_target: str | None,
) -> int:
    """Enhance cameras until stopped and tell how it went; returns the exit code."""
    given = {name: value for name, value in values.items() if value is not None}
    config, cameras = load_cameras(urls, preset=preset, file=config_file, values=given)
    verbosity = _console.settings.verbosity
    level = logging.DEBUG if verbosity > 0 else logging.WARNING if verbosity < 0 else logging.INFO
    start_logging(config.live.log_format, level=level)
    with stop_on_signal() as stop:
        report = run_live(cameras, config, stop=stop)
    if verbosity >= 0 and config.live.log_format == "text" and json_target != "-":
        _tell(report)
    _console.write_json(json_target, report.to_dict())
    # Being stopped is how a live run ends; that is no failure. Ending by itself without a picture of some camera is.
    silent = report.status == "done" and any(not camera["frames"]["in"] for camera in report.cameras)
    return FAILED if silent else DONE


def _tell(report: LiveReport) -> None:
    for camera in report.cameras:
        frames, latency = camera["frames"], camera["latency"]
        delay = f", latency {1e3 * latency['p50']:.0f} ms, 95 % within {1e3 * latency['p95']:.0f} ms"
        _console.say(f"{camera['name']}: {frames['in']} frames in, {frames['out']} out{delay if frames['out'] else ''}")
        for cause, count in camera["dropped"].items():
            _console.say(f"  dropped: {count} frames: {cause}")
        for kind in ("untouched", "bypassed"):
            if count := camera["pictures"].get(kind):
                why = "it was bright" if kind == "untouched" else "there was no time"
                _console.say(f"  handed on as they were: {count} frames: {why}")
        for delivery in camera["delivery"]:
            _console.say(f"  {delivery['kind']} {delivery['target']}: {delivery['written']} frames")
            for cause, count in delivery["dropped"].items():
                _console.say(f"    dropped: {count} frames: {cause}")
        if camera["fault"]:
            _console.say(f"  {camera['state']}: {camera['fault']['message']}")
    for change in report.ladder["changes"][-5:]:
        _console.say(f"at {change['seconds']:.1f} s: '{change['before']}' to '{change['after']}': {change['reason']}")
    if report.detection is not None:
        found = sum(report.detection["found"].values())
        _console.say(f"detections: {found} in {sum(report.detection['looks'].values())} pictures")
