"""Make dark test pictures and clips out of bright ones."""

from __future__ import annotations

import click

from streamlight.cli import _console


@click.command("degrade")
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", required=True, metavar="OUTPUT", help="Output file, or folder for a folder.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="The same seed gives the same file.")
@click.option("--exposure", metavar="E", help="Share of the light that is left, for example 1/25. Default: drawn.")
@click.option(
    "--codec",
    type=click.Choice(["none", "jpeg", "h264", "hevc"]),
    help="How the dark picture is stored; none: 8 bit without loss. Default: drawn.",
)
@click.option("--quality", type=int, metavar="N", help="On the codec's scale: CRF, or JPEG quality. Default: drawn.")
@click.option("--parameters", metavar="FILE", help="JSON that an earlier run wrote, or parameters of your own.")
@click.option("--target", metavar="PATH", help="Write the bright target too: a file, or a folder for a folder.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--json", "json_target", metavar="FILE", help="Write the reports as JSON; '-' writes them to stdout.")
@_console.common_options
def command(
    source: str,
    output: str,
    seed: int,
    exposure: str | None,
    codec: str | None,
    quality: int | None,
    parameters: str | None,
    target: str | None,
    overwrite: bool,
    json_target: str | None,
) -> int:
    """Darken INPUT (image, .hdr or .exr radiance map, video, or a folder of them) as a camera at night would see it.

    Light, lamps, colour, noise and compression are drawn from the seed, by the code that training uses, and are written
    to OUTPUT.json. Times and sound of a video go along.
    """
    from streamlight.training.degradation.files import DegradeReport, DegradeSettings, degrade_files
    from streamlight.training.degradation.options import parse_exposure, read_parameters

    _console.check_json_target(json_target)

    def finished(report: DegradeReport) -> None:
        if report.error is not None:
            _console.error(report.error)
            return
        _console.say(f"{report.output}: {report.frames} frame{'s' * (report.frames != 1)}")
        for loss in report.losses:
            _console.say(f"  {loss}")

    settings = DegradeSettings(
        seed=seed,
        exposure=None if exposure is None else parse_exposure(exposure),
        codec=codec,  # type: ignore[arg-type]  # click has checked it
        quality=quality,
        parameters=None if parameters is None else read_parameters(parameters),
        overwrite=overwrite,
    )
    reports = degrade_files(source, output, settings=settings, target=target, finished=finished)
    _console.write_json(json_target, {"reports": [report.to_json() for report in reports]})
    return int(any(report.error is not None for report in reports))
