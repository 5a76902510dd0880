"""Measure speed and memory on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from streamlight.cli import _console
from streamlight.cli._groups import DefaultGroup

if TYPE_CHECKING:
    from rich.console import Console

    from streamlight.evaluation.bench import BenchResult, ClipResult
    from streamlight.evaluation.gpu_bench import GpuBench
    from streamlight.evaluation.live_bench import LiveBench
    from streamlight.evaluation.model_bench import ModelBench


@click.group("bench", cls=DefaultGroup, default="video", no_args_is_help=False)
def command() -> None:
    """Measure on this machine: speed and memory, a card, steadiness of the output, or live runs through faults."""


@command.command("video")
@click.argument("clips", nargs=-1, metavar="[CLIP]...")
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="Preset to measure; may be given repeatedly.")
@click.option("--repeat", default=3, show_default=True, help="Runs of every case; the median counts.")
@click.option(
    "--long", default=10, show_default=True, help="Measure memory on a clip this many times longer; 0: don't."
)
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def bench_video(
    clips: tuple[str, ...], presets: tuple[str, ...], repeat: int, long: int, json_target: str | None
) -> None:
    """Measure decoding, enhancing and encoding alone, then whole jobs, on CLIPs or on two synthetic 1080p clips.

    Takes some minutes. Close other programs first: the figures are of the machine as it is.
    """
    from streamlight.evaluation.bench import PRESETS, run_bench

    _console.check_json_target(json_target)
    result = run_bench(
        clips,
        presets=presets or PRESETS,
        repeat=repeat,
        long=long,
        command=shlex.join(["streamlight", *sys.argv[1:]]),
        progress=_console.say,
    )
    _console.write_json(json_target, result.to_dict())
    if json_target != "-":
        _show(result)


@command.command("models")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--dtype", "dtypes", multiple=True, metavar="NAME", help="Precision; may be given repeatedly.")
@click.option("--size", metavar="WxH", help="Picture size instead of each target's own.")
@click.option("--repeat", default=1, show_default=True, help="Timed runs of every case; the median counts.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def bench_models(
    targets: tuple[str, ...], dtypes: tuple[str, ...], size: str | None, repeat: int, json_target: str | None
) -> None:
    """Measure TARGETs (llflow, llflow-small, glare, lldiffusion-step; default all) with random weights.

    Takes minutes: the large networks need half a minute a picture on two cores.
    """
    from streamlight.evaluation.model_bench import DTYPES, TARGETS, bench_models, parse_size

    _console.check_json_target(json_target)
    result = bench_models(
        targets or tuple(TARGETS),
        dtypes=dtypes or DTYPES,
        size=parse_size(size) if size else None,
        repeat=repeat,
        command=shlex.join(["streamlight", *sys.argv[1:]]),
        progress=_console.say,
    )
    _tell(result, json_target)


@command.command("gpu")
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option("--device", default="cuda:0", show_default=True, help="Card to measure on; cpu rehearses without one.")
@click.option("--dtype", default="bfloat16", show_default=True, help="Working precision.")
@click.option("--repeat", default=5, show_default=True, help="Timed runs; the median counts.")
@click.option("--frames", type=int, metavar="N", help="Frames of a timed run and of the pipeline. Default: 60 and 300.")
@click.option("--cameras", default=16, show_default=True, help="Cameras in one call.")
@click.option("--clip", "clips", multiple=True, metavar="FILE", help="Video to measure on too; may be repeated.")
@click.option("--size", metavar="WxH", help="Size of synthetic frames instead of 1920x1080.")
@click.option("--quick", is_flag=True, help="Small and short, to see that everything runs.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@click.option("-o", "--output", metavar="PNG", help="Picture to write: who worked when in the pipeline.")
@_console.common_options
def bench_gpu(
    rows: tuple[str, ...],
    device: str,
    dtype: str,
    repeat: int,
    frames: int | None,
    cameras: int,
    clips: tuple[str, ...],
    size: str | None,
    quick: bool,
    json_target: str | None,
    output: str | None,
) -> None:
    """Measure what a card reaches, and hold it against what it can do and against the goals.

    ROW is llflow-small, llflow, glare, lldiffusion, tonenet, tonenet-cameras, parity or pipeline (default: all). What
    fails is told with its reason, and the rest goes on.
    """
    from streamlight.evaluation.charts import check_target, write_picture
    from streamlight.evaluation.gpu_bench import bench_gpu
    from streamlight.evaluation.gpu_plot import draw_spans
    from streamlight.evaluation.model_bench import parse_size

    _console.check_json_target(json_target)
    _console.check_json_target(output, option="--output")
    check_target(output, option="--output")

    def keep(bench: GpuBench) -> None:
        if json_target != "-":
            _console.write_json(json_target, bench.to_dict())

    names = {clip: PurePath(clip).name for clip in clips}
    result = bench_gpu(
        rows,
        device=device,
        dtype=dtype,
        size=parse_size(size) if size else None,
        frames=frames,
        repeat=repeat,
        cameras=cameras,
        clips=clips,
        quick=quick,
        command=shlex.join(["streamlight", *(names.get(word, word) for word in sys.argv[1:])]),
        progress=_console.say,
        keep=keep,
    )
    picture = draw_spans(result) if output is not None else None
    if output is not None and picture is not None:
        write_picture(output, picture)
        _console.say(f"{output} written")
    _tell(result, json_target)


@command.command("temporal")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--weights", multiple=True, metavar="NAME=FILE", help="Weights to measure under a name; may be given repeatedly."
)
@click.option("--data", type=click.Path(), metavar="DIR", help="Folder with video/, for darkened clips as well.")
@click.option("--part", "parts", multiple=True, metavar="NAME", help="steady, cut, still, warm, guided or overhead.")
@click.option("--frames", default=24, show_default=True, help="Frames of every clip.")
@click.option("--size", default=192, show_default=True, help="Long side of the clips, pixels.")
@click.option("--sweep", is_flag=True, help="Compare several values of stability.")
@click.option("--still-frames", default=10_000, show_default=True, help="Frames of the still scene.")
@click.option("--still-pictures", default=300, show_default=True, help="The same for models that see every pixel.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@click.option("-o", "--output", metavar="FILE", help="Page to write, Markdown; its plots go to images/ beside it.")
@click.option(
    "--join", "joined", multiple=True, type=click.Path(), metavar="FILE", help="JSON of an earlier run to tell as well."
)
@_console.common_options
def bench_temporal(
    models: tuple[str, ...],
    weights: tuple[str, ...],
    data: str | None,
    parts: tuple[str, ...],
    frames: int,
    size: int,
    sweep: bool,
    still_frames: int,
    still_pictures: int,
    json_target: str | None,
    output: str | None,
    joined: tuple[str, ...],
) -> None:
    """Measure how steady video is that MODELs enhance, and what that costs in fidelity and time.

    MODEL is tonenet, retinex (default: both) or a weights file, with options as in retinex,time_constant=0. With the
    three generative models it takes some ten minutes.
    """
    from streamlight.evaluation.temporal_bench import PARTS, SWEEP, bench_temporal, contenders_of, read_bench
    from streamlight.evaluation.temporal_page import write_page

    _console.check_json_target(json_target)
    _console.check_json_target(output, option="--output")
    places: dict[str | None, str] = {data: "DATA", **{word: PurePath(word).name for word in (*models, *joined)}}
    places |= {word: "=".join((word.partition("=")[0], PurePath(word).name)) for word in weights}
    earlier = [read_bench(path) for path in joined]
    result = bench_temporal(
        contenders_of(models, weights),
        data=data,
        parts=parts or PARTS,
        frames=frames,
        size=size,
        sweep=SWEEP if sweep else (),
        still_frames=still_frames,
        still_pictures=still_pictures,
        command=shlex.join(["streamlight", *(places.get(word, word) for word in sys.argv[1:])]),
        progress=_console.say,
    )
    for one in reversed(earlier):
        result = one.joined(result)
    _console.write_json(json_target, result.to_dict())
    for path in write_page(output, result) if output is not None else ():
        _console.say(f"{path} written")
    if json_target != "-":
        click.echo(result.summary())


@command.command("live")
@click.argument("cases", nargs=-1, metavar="[CASE]...")
@click.option("--seconds", default=30.0, show_default=True, help="How long each load is watched.")
@click.option("--faults", "fault_count", default=20, show_default=True, help="Faults of the camera.")
@click.option("--cameras", "camera_count", default=4, show_default=True, help="Small cameras at a time.")
@click.option("--away", default=10.0, show_default=True, help="Seconds that the server published to is away.")
@click.option("--minutes", default=2.0, show_default=True, help="Length of the soak.")
@click.option("--seed", default=1, show_default=True, help="Of the order and length of the faults.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def bench_live(
    cases: tuple[str, ...],
    seconds: float,
    fault_count: int,
    camera_count: int,
    away: float,
    minutes: float,
    seed: int,
    json_target: str | None,
) -> None:
    """Rehearse live CASEs on this machine: faults, latency, overload, cameras, publish, soak (default: all).

    Needs GStreamer's RTSP server (Debian: python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good, -bad and
    -ugly). Takes some ten minutes; close other programs first.
    """
    from streamlight.evaluation.live_bench import bench_live

    _console.check_json_target(json_target)
    result = bench_live(
        cases,
        seconds=seconds,
        fault_count=fault_count,
        camera_count=camera_count,
        away=away,
        minutes=minutes,
        seed=seed,
        command=shlex.join(["streamlight", *sys.argv[1:]]),
        progress=_console.say,
    )
    _tell(result, json_target)


def _tell(result: ModelBench | LiveBench | GpuBench, json_target: str | None) -> None:
    _console.write_json(json_target, result.to_dict())
    if json_target != "-":
        for line in result.lines():
            click.echo(line)


def _show(result: BenchResult) -> None:
    from rich.console import Console

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=110)
    for line in (f"$ {result.command}", *result.machine.lines()):
        console.print(line, soft_wrap=True, markup=False)
    for clip in result.clips:
        _show_clip(console, clip, result.repeat)


def _show_clip(console: Console, clip: ClipResult, repeat: int) -> None:
    from rich.table import Table

    title = f"{clip.name}: {clip.picture}, median of {repeat}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2))
    headings = ("", "preset", "frames", "fps", "ms", "core-ms", "of decode", "overlap", "peak MB")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    for f in clip.figures:
        overlap = "" if f.overlap is None else f"{f.overlap:.2f}"
        cells = (f.frames, f"{f.fps:.1f}", f"{f.ms:.2f}", f"{f.core_ms:.2f}", f"{f.of_decode:.2f}", overlap)
        table.add_row(f.case, f.preset, *map(str, cells), f"{f.peak_memory / 1e6:.0f}")
    console.print()
    console.print(table)
    for f in clip.figures:
        if f.steps_ms:
            steps = ", ".join(f"{name} {value:.2f}" for name, value in f.steps_ms.items())
            console.print(f"{f.case} {f.preset}, ms a frame: {steps}", soft_wrap=True, markup=False)
    if clip.growth is not None:
        peak = clip.long_peak_memory / 1e6
        console.print(f"peak memory on {clip.long} times the length: {peak:.0f} MB, {clip.growth:.2f} times as much")
