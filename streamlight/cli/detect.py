"""Find people, cars or anything that moves in dark videos and images."""

from __future__ import annotations

from typing import Any

import click

from streamlight.cli import _console, _options


@click.command("detect")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", metavar="OUTPUT", help="Write the enhanced video with boxes: a file, or a folder.")
@click.option("--empty", is_flag=True, help="Also tell of the frames in which nothing was found.")
@_options.options_of(
    "input", "model", "output", "run.overwrite", "run.workers",
    "detect.model", "detect.pictures", "detect.names", "detect.threshold", "detect.events",
)  # fmt: skip
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; '-' writes it to stdout.")
@_console.common_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    empty: bool,
    preset: str | None,
    config_file: str | None,
    json_target: str | None,
    **values: Any,
) -> int:
    """Detect in every frame of INPUT (videos, images, folders) and write what is found as JSON Lines.

    Lines go to --events, else to stdout: time, labels, scores and boxes in pixels of the source. --detect is an ONNX
    file, or motion, which needs none and is the default here.
    """
    from streamlight.cli._detecting import run_detection

    _console.check_json_target(json_target)
    config = _options.config_from_options(preset, config_file, values)
    return run_detection(inputs, output, config, empty=empty, json_target=json_target)
