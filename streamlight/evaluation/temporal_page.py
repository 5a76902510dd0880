"""The page and the pictures that ``streamlight bench temporal`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from streamlight.errors import MediaError
from streamlight.evaluation.charts import write_picture
from streamlight.evaluation.temporal_bench import DEFINITIONS, TemporalBench
from streamlight.evaluation.temporal_plot import draw_plots
from streamlight.evaluation.temporal_ways import Taken

_TITLES: Final = {
    "stability": "Steadiness against fidelity",
    "luma": "Mean luma over time",
    "still": "A scene that stands still",
}


def write_page(path: str | Path, bench: TemporalBench) -> list[Path]:
    """Write the page, and its plots into the folder ``images`` beside it as ``NAME_PLOT.png``.

    Args:
        path: The page, Markdown.
        bench: What was measured.

    Returns:
        The files written.

    Raises:
        MediaError: One of them cannot be written.
    """
    path = Path(path)
    folder = path.absolute().parent / "images"
    plots = draw_plots(bench)
    names = {plot: f"{path.stem}_{plot}.png" for plot in plots}
    try:
        folder.mkdir(exist_ok=True)
        path.write_text(markdown(bench, {plot: f"images/{name}" for plot, name in names.items()}), encoding="utf-8")
    except OSError as error:
        raise MediaError(f"cannot write {path} and its images: {error.strerror or error}") from error
    for plot, picture in plots.items():
        write_picture(folder / names[plot], picture)
    return [path, *(folder / name for name in names.values())]


def markdown(bench: TemporalBench, plots: Mapping[str, str]) -> str:
    """The page.

    Args:
        bench: What was measured.
        plots: Where each plot lies, as seen from the page.
    """
    parts = [
        "# Video, not frames: what is remembered from frame to frame, measured",
        "\n".join(f"    $ {command}" for command in bench.commands),
        "  \n".join([*bench.machine.lines(), f"torch threads: {bench.threads}{_load(bench)}"]),
        "\n".join(f"* {_model(label, told)}" for label, told in bench.models.items()),
        f"Clips of {bench.frames} frames: {', '.join(f'{name} ({size})' for name, size in bench.clips.items())}; "
        f"default stability {bench.stability:g}. Cells read *before → after: what the goal is about*; **bold** misses "
        "its goal.",
        bench.summary(),
        "\n".join(f"* {name}: {text}" for name, text in DEFINITIONS.items()),
    ]
    if notes := _notes(bench):
        parts += ["## How it was measured where models differ", notes]
    parts += [f"## {_TITLES[plot]}\n\n![{_TITLES[plot]}]({place})" for plot, place in plots.items()]
    if sweep := _sweep(bench):
        parts += ["## Stability", sweep]
    if clips := _clips(bench):
        parts += ["## Clip by clip", clips]
    return "\n\n".join(parts) + "\n"


def _load(bench: TemporalBench) -> str:
    return "" if bench.load is None else f"; load of the machine before: {bench.load:.1f}"


def _model(label: str, told: Mapping[str, Any]) -> str:
    text = f"{label}: {told['card']['parameters']:,} parameters"
    if told["recipe"]:
        text += f", {told['recipe']}, {int(told['steps'] or 0):,} steps"
    return text + (f", SHA-256 {told['sha256']}" if told["sha256"] else "")


def _notes(bench: TemporalBench) -> str:
    told: dict[str, dict[str, list[str]]] = {}
    for row in bench.rows:
        if row.note:
            told.setdefault(row.to_dict()["title"], {}).setdefault(row.note, []).append(row.model)
    lines = []
    for title, notes in told.items():
        texts = [f"{note} ({', '.join(models)})" for note, models in notes.items()]
        lines.append(f"* {title}: {'; '.join(texts)}")
    return "\n".join(lines)


_HEADS: Final = "E_warp, x 0.001 | flicker | PSNR | moving | SSIM | noise"


def _sweep(bench: TemporalBench) -> str:
    """Means over the clips, a line a way."""
    ways = dict.fromkeys(
        (one.model, one.temperature, one.stability) for one in bench.taken if one.temperature is not None
    )
    if not ways:
        return ""
    lines = [
        f"| mean over the clips | temperature | stability | {_HEADS} | core-s a frame |",
        "|---|---:|---:|" + "---:|" * 7,
    ]
    for way in ways:
        of = [one for one in bench.taken if (one.model, one.temperature, one.stability) == way]
        label, temperature, stability = way
        told = "frame by frame" if stability is None else f"{stability:g}"
        lines.append(f"| {label} | {temperature:g} | {told} | {_figures(of)} | {fmean(o.seconds for o in of):.3f} |")
    return "\n".join(lines)


def _clips(bench: TemporalBench) -> str:
    """Frame by frame and the default, a line a clip."""
    of = [one for one in bench.taken if one.stability in (None, bench.stability)]
    if not of:
        return ""
    lines = [f"| model | clip | temperature | | {_HEADS} |", "|---|---|---:|---|" + "---:|" * 6]
    for one in of:
        told = "frame by frame" if one.stability is None else "stream"
        temperature = "" if one.temperature is None else f"{one.temperature:g}"
        lines.append(f"| {one.model} | {one.clip} | {temperature} | {told} | {_figures([one])} |")
    return "\n".join(lines)


def _figures(of: list[Taken]) -> str:
    def cell(name: str, digits: int, scale: float = 1.0) -> str:
        known = [value for one in of if (value := getattr(one, name)) is not None]
        return f"{scale * fmean(known):.{digits}f}" if known else ""

    return " | ".join(
        (
            cell("warp_error", 3, 1e3),
            cell("flicker", 3),
            cell("psnr", 2),
            cell("psnr_moving", 2),
            cell("ssim", 4),
            cell("noise", 2),
        )
    )
