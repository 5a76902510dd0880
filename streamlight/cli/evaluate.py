"""Measure quality: of pictures against references, of video and how steady it is, in one table."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from streamlight.cli import _console, _options
from streamlight.cli._groups import DefaultGroup
from streamlight.timecode import format_time

_INTERVAL = 10.0


@click.group("evaluate", cls=DefaultGroup, default="images", no_args_is_help=False)
def command() -> None:
    """Measure quality: of pictures against references, of video, in one table."""


@command.command("images")
@click.option(
    "--pairs", metavar="DIR", help="Folder with dark pictures in low/ and well-lit ones in high/ (or ref/, …)."
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="A published test set (lol, lolv2-real, lolv2-syn, velol, sice-like), or synthetic.",
)
@click.option("--root", metavar="DIR", help="The folder that holds the dataset, as it is published.")
@click.option("--cache", metavar="DIR", help="Keep the pictures of the synthetic set there for the next time.")
@click.option("--lpips", is_flag=True, help="Score LPIPS as well; needs the extra 'lpips' and AlexNet's weights.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@click.option("--markdown", "markdown_target", metavar="FILE", help="The whole report as a Markdown page.")
@_options.options_of("model", "run.workers", "input.tonemap")
@_console.common_options
def evaluate_images(
    pairs: str | None,
    dataset: str | None,
    root: str | None,
    cache: str | None,
    lpips: bool,
    json_target: str | None,
    markdown_target: str | None,
    preset: str | None,
    config_file: str | None,
    **values: Any,
) -> None:
    """Enhance the dark picture of every pair and compare it with the well-lit one.

    Prints PSNR and SSIM, each without GT-mean and with it (after the brightness was scaled to the reference's), as a
    Markdown table of means; JSON and the page of --markdown also hold every picture.

    The dataset synthetic is made on the spot: the photographs that no model in the package was trained on, found below
    --root, are darkened the same way each time.
    """
    from streamlight.evaluation import images
    from streamlight.evaluation.contenders import of_config
    from streamlight.evaluation.synthetic import found_pairs

    _check_targets(json_target, markdown_target)
    config = _options.config_from_options(preset, config_file, values)
    with found_pairs(pairs=pairs, dataset=dataset, root=root, cache=cache) as (name, found):
        report = images.evaluate_images(
            found,
            contender=of_config(config),
            dataset=name,
            lpips=lpips,
            command=shlex.join(["streamlight", *sys.argv[1:]]),
            progress=_progress(),
        )
    _console.write_json(json_target, report.to_dict())
    _console.write_text(markdown_target, report.markdown())
    if "-" not in (json_target, markdown_target):
        click.echo(report.summary())


@command.command("video")
@click.argument("contenders", nargs=-1, metavar="[CONTENDER]...")
@click.option("--data", metavar="DIR", help="Folder with the clean clips that are darkened: video/opencv_vtest.avi, …")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="A dark clip without reference; repeatable.")
@click.option("--frames", default=150, show_default=True, help="Frames of each clip; the first 30 are not measured.")
@click.option("--cache", metavar="DIR", help="Keep the darkened clips there for the next time.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@click.option("--markdown", "markdown_target", metavar="FILE", help="The whole report as a Markdown page.")
@_console.common_options
def evaluate_video(
    contenders: tuple[str, ...],
    data: str | None,
    clips: tuple[str, ...],
    frames: int,
    cache: str | None,
    json_target: str | None,
    markdown_target: str | None,
) -> None:
    """Measure what CONTENDERs make of dark video: detail at rest and in motion, noise, flicker.

    A CONTENDER is a model with options, for example retinex or retinex,denoise=0,label=rough; or a weights file; or
    gamma, the plainest brightening. Default: the default model. The input is always told.
    """
    from streamlight.config import Config
    from streamlight.evaluation.contenders import parse_contender
    from streamlight.evaluation.video import evaluate_video

    _check_targets(json_target, markdown_target)
    report = evaluate_video(
        [parse_contender(text) for text in contenders or (Config().model.name,)],
        data=data,
        clips=clips,
        frames=frames,
        cache=cache,
        command=shlex.join(["streamlight", *sys.argv[1:]]),
        progress=_console.say,
    )
    _console.write_json(json_target, report.to_dict())
    _console.write_text(markdown_target, report.markdown())
    if "-" not in (json_target, markdown_target):
        click.echo(report.summary())


@command.command("detection")
@click.argument("contenders", nargs=-1, metavar="[CONTENDER]...")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="Dark clip or picture, repeatable.")
@click.option("--labels", metavar="FILE", help="True boxes: JSON Lines as 'streamlight detect' writes, or COCO's JSON.")
@click.option("--reference-clip", "reference", metavar="FILE", help="Clean version of the clip: its boxes are true.")
@click.option("--darken", "darken", multiple=True, metavar="E", help="Clips are clean: leave 1/60 of the light, say.")
@click.option(
    "--camera",
    type=click.Choice(["surveillance", "dashcam"]),
    default="surveillance",
    show_default=True,
    help="Whose noise --darken adds.",
)
@click.option("--frames", default=90, show_default=True, help="Frames of each clip.")
@click.option("--warm-up", default=15, show_default=True, help="The first of them, which are not measured.")
@click.option("--only", multiple=True, metavar="CLASS", help="Classes that count, repeatable. Default: all.")
@click.option("--cache", metavar="DIR", help="Keep the darkened clips there for the next time.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@click.option("--markdown", "markdown_target", metavar="FILE", help="The whole report as a Markdown page.")
@_options.options_of("detect.model", "detect.names", "detect.threshold", "model.device")
@_console.common_options
def evaluate_detection(
    contenders: tuple[str, ...],
    clips: tuple[str, ...],
    labels: str | None,
    reference: str | None,
    darken: tuple[str, ...],
    camera: str,
    frames: int,
    warm_up: int,
    only: tuple[str, ...],
    cache: str | None,
    json_target: str | None,
    markdown_target: str | None,
    preset: str | None,
    config_file: str | None,
    **values: Any,
) -> None:
    """Measure whether CONTENDERs help a detector (--detect FILE.onnx, or motion) in the dark.

    Recall, precision and average precision (COCO's AP50 and AP), on the dark picture as it is, on a plain power law,
    and on what each CONTENDER makes of it; default: the default model.
    """
    from streamlight.config import Config
    from streamlight.evaluation.contenders import parse_contender
    from streamlight.evaluation.detection import DetectionSettings, evaluate_detection
    from streamlight.training.degradation.options import parse_exposure

    _check_targets(json_target, markdown_target)
    config = _options.config_from_options(preset, config_file, values)
    report = evaluate_detection(
        [parse_contender(text) for text in contenders or (Config().model.name,)],
        clips=clips,
        settings=DetectionSettings(
            config.detect.model or "motion",
            names=config.detect.names,
            device=config.model.device,
            threshold=config.detect.threshold,
            frames=frames,
            warm_up=warm_up,
            labels=only,
        ),
        labels=labels,
        reference=reference,
        exposures=[parse_exposure(text) for text in darken],
        camera=camera,
        cache=cache,
        command=_command(None, cache),
        progress=_console.say,
    )
    _console.write_json(json_target, report.to_dict())
    _console.write_text(markdown_target, report.markdown())
    if "-" not in (json_target, markdown_target):
        click.echo(report.summary())


@command.command("stability")
@click.argument("enhanced", metavar="ENHANCED")
@click.option("--source", required=True, metavar="DARK", help="The dark video that ENHANCED was made of.")
@click.option("--reference", metavar="CLEAN", help="The clean video that it should be.")
@click.option("--plot", metavar="FILE", help="Draw mean luma, flicker and warping error over time, as PNG or JPEG.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def evaluate_stability(
    enhanced: str, source: str, reference: str | None, plot: str | None, json_target: str | None
) -> None:
    """Measure how steady ENHANCED is: warping error, flicker, temporal noise, drift.

    Motion is found in the reference, or without one in the source, never in what is judged. All files must have the
    same size and the same number of frames.
    """
    from streamlight.evaluation.stability_plot import check_plot_target, write_plot
    from streamlight.evaluation.stability_video import evaluate_stability

    _console.check_json_target(json_target)
    check_plot_target(plot)
    _console.check_json_target(plot, option="--plot")
    report = evaluate_stability(
        enhanced,
        source=source,
        reference=reference,
        command=shlex.join(["streamlight", *sys.argv[1:]]),
        progress=_console.say,
    )
    _console.write_json(json_target, report.to_dict())
    if plot is not None:
        write_plot(plot, report)
    if json_target != "-":
        click.echo(report.summary())


@command.command("speed")
@click.argument("contenders", nargs=-1, metavar="[CONTENDER]...")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="Clip to work on, repeatable. Default: synthetic.")
@click.option("--encoder-preset", "encoders", multiple=True, metavar="NAME", help="Preset of x264, repeatable.")
@click.option("--repeat", default=3, show_default=True, help="Runs of every case; the median counts.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def evaluate_speed(
    contenders: tuple[str, ...], clips: tuple[str, ...], encoders: tuple[str, ...], repeat: int, json_target: str | None
) -> None:
    """Measure how fast whole jobs are with CONTENDERs (models with options), and what their networks cost.

    Close other programs first: the figures are of the machine as it is.
    """
    from streamlight.config import Config
    from streamlight.evaluation.contenders import parse_contender
    from streamlight.evaluation.speed import ENCODERS, measure_speed

    _console.check_json_target(json_target)
    report = measure_speed(
        [parse_contender(text) for text in contenders or (Config().model.name,)],
        clips=clips,
        encoders=encoders or ENCODERS,
        repeat=repeat,
        command=shlex.join(["streamlight", *sys.argv[1:]]),
        progress=_console.say,
    )
    _console.write_json(json_target, report.to_dict())
    if json_target != "-":
        click.echo(report.summary())


@command.command("table")
@click.option("--data", required=True, metavar="DIR", help="Folder of the data; see docs.")
@click.option("--part", "parts", multiple=True, type=click.Choice(["stills", "video", "speed"]), help="Default: all.")
@click.option("--also", multiple=True, metavar="CONTENDER", help="Another model with options, or a file; repeatable.")
@click.option("--cache", metavar="DIR", help="Keep the material that is made there for the next time.")
@click.option("--repeat", default=3, show_default=True, help="Runs of every speed case; the median counts.")
@click.option("-o", "--output", metavar="FILE", help="Write the table there, as Markdown.")
@click.option("--cards", is_flag=True, help="Write the figures into the cards of the models in the package.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def evaluate_table(
    data: str,
    parts: tuple[Any, ...],
    also: tuple[str, ...],
    cache: str | None,
    repeat: int,
    output: str | None,
    cards: bool,
    json_target: str | None,
) -> None:
    """Measure everything that is claimed of the models in the package, in one table, with the goals.

    Stills, darkened and night video, speed, for the default model in its looks, the other models and the baselines.
    """
    from streamlight.evaluation.contenders import parse_contender
    from streamlight.evaluation.table import PARTS, check_cards, measure_table, write_cards

    _console.check_json_target(output, option="--output")
    _console.check_json_target(json_target)
    if cards:
        check_cards()
    report = measure_table(
        data,
        parts=parts or PARTS,
        also=[parse_contender(text) for text in also],
        cache=cache,
        repeat=repeat,
        command=_command(data, cache),
        progress=_console.say,
    )
    _console.write_json(json_target, report.to_dict())
    _console.write_text(output, report.markdown())
    for path in write_cards(report) if cards else ():
        _console.say(f"{path.name}: figures written")
    if output is None and json_target != "-":
        click.echo(report.markdown())


def _command(data: str | None, cache: str | None) -> str:
    """How we were called; where the data lies on this machine is nobody's business."""
    places = {data: "DATA", cache: "CACHE"}
    return shlex.join(["streamlight", *(places.get(word, word) for word in sys.argv[1:])])


def _check_targets(json_target: str | None, markdown_target: str | None) -> None:
    _console.check_json_target(json_target)
    _console.check_json_target(markdown_target, option="--markdown")
    if json_target == markdown_target == "-":
        raise click.UsageError("--json and --markdown cannot both go to stdout")


def _progress() -> Callable[[int, int, str], None]:
    """A line every ten seconds; with ``-v`` one for each picture."""
    begin = last = time.monotonic()

    def tell(done: int, total: int, name: str) -> None:
        nonlocal last
        now = time.monotonic()
        level = 0 if now - last >= _INTERVAL else 1
        last = last if level else now
        left = f", {format_time((now - begin) / done * (total - done))} left" if done else ""
        _console.say(f"{done} of {total} pictures{left}; {name}", level=level)

    return tell
