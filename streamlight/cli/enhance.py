"""Enhance videos and images: files or folders in, brighter ones out."""

from __future__ import annotations

from typing import Any

import click

from streamlight.cli import _console, _options


@click.command("enhance")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, metavar="OUTPUT", help="Output file, or folder for several inputs.")
@_options.config_options
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; '-' writes it to stdout.")
@_console.common_options
def command(
    inputs: tuple[str, ...],
    output: str,
    preset: str | None,
    config_file: str | None,
    json_target: str | None,
    **values: Any,
) -> int:
    """Enhance INPUT (videos, images, folders) and write OUTPUT.

    Every frame, timestamp, sound track, subtitle and tag goes along; what a container cannot hold is named at the end.
    """
    from streamlight.cli._jobs import run_jobs

    _console.check_json_target(json_target)
    config = _options.config_from_options(preset, config_file, values)
    return run_jobs(inputs, output, config, json_target)
