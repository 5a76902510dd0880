"""Enhance cameras as they run: RTSP in, brighter RTSP, recordings and detections out."""

from __future__ import annotations

from typing import Any

import click

from streamlight.cli import _console, _options
from streamlight.config import LIVE_OPTIONS


@click.command("live")
@click.argument("urls", nargs=-1, metavar="[URL]...")
@_options.options_of(*LIVE_OPTIONS)
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON at the end; '-' is stdout.")
@_console.common_options
def command(
    urls: tuple[str, ...],
    preset: str | None,
    config_file: str | None,
    json_target: str | None,
    **values: Any,
) -> int:
    """Enhance the cameras at URL, or those in the file that --config names, until stopped.

    A camera is an address (rtsp://, rtmp://, srt://, http:// and the like), a device (/dev/video0) or, with --realtime,
    a file. Ctrl-C or SIGTERM ends it: recordings are closed so that they play, and the report says what was dropped.
    """
    from streamlight.cli._title import hide_credentials

    hide_credentials()  # before the seconds that loading takes
    from streamlight.cli._live import run_cameras

    _console.check_json_target(json_target)
    return run_cameras(urls, preset, config_file, values, json_target)
