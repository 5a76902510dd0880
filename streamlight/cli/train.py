"""Train a network by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlight.cli import _console

if TYPE_CHECKING:
    from streamlight.training.run import Outcome

_INTERRUPTED = 130


@click.command("train")
@click.argument("recipe", metavar="RECIPE.yaml")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder of the run: checkpoints, weights, log.")
@click.option(
    "--data", default=".", show_default=True, metavar="DIR", help="Folder that the recipe's pictures are below."
)
@click.option("--resume", is_flag=True, help="Go on with the run in FOLDER, exactly where its last checkpoint is.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda or cuda:N.")
@click.option("--max-hours", type=click.FloatRange(min=0), metavar="H", help="Stop with a checkpoint after this time.")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Steps of the run, instead of the recipe's.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of the network on the CPU.")
@click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Processes that make pictures. Default: one per core."
)
@click.option("--pool", metavar="DIR", help="Folder of ready pairs, shared by runs. Default: FOLDER/pool.")
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard too; needs the extra 'train'.")
@_console.common_options
def command(
    recipe: str,
    output: str,
    data: str,
    resume: bool,
    device: str,
    max_hours: float | None,
    steps: int | None,
    threads: int | None,
    workers: int | None,
    pool: str | None,
    tensorboard: bool,
) -> int:
    """Train what RECIPE.yaml describes, on the pictures it names, into FOLDER.

    FOLDER gets weights.safetensors, checkpoint.pt, log.jsonl, sample sheets, and the pairs made of the pictures. Ctrl-C
    stops after the step with a checkpoint; --resume goes on as if nothing had happened.
    """
    from streamlight.cli._training import TrainingDisplay
    from streamlight.training.run import RunSettings, train

    settings = RunSettings(
        data=Path(data),
        resume=resume,
        device=device,
        max_hours=max_hours,
        steps=steps,
        tensorboard=tensorboard,
        threads=threads,
        workers=workers,
        pool=None if pool is None else Path(pool),
    )
    with TrainingDisplay(quiet=_console.settings.verbosity < 0) as display:
        outcome = train(recipe, output, settings=settings, tell=display.update, note=display.note)
    return _report(outcome)


def _report(outcome: Outcome) -> int:
    _console.say(f"{outcome.weights}: after {outcome.step} of {outcome.steps} steps")
    if outcome.reason == "finished":
        return 0
    cause = "interrupted" if outcome.reason == "interrupted" else "the time is up"
    _console.say(f"{cause}; the checkpoint is saved, go on with --resume")
    return _INTERRUPTED if outcome.reason == "interrupted" else 0
