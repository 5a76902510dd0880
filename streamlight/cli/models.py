"""List the models, show their cards, say what a weights file is, convert one."""

from __future__ import annotations

import click

from streamlight.cli import _console
from streamlight.cli._groups import DefaultGroup


@click.group("models", cls=DefaultGroup, default="list", no_args_is_help=False)
def command() -> None:
    """List the models that --model takes, or look into a weights file."""


@command.command("list")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def list_models(json_target: str | None) -> None:
    """List the models that --model takes, what they are for, and their licences."""
    from streamlight.models import cards

    _console.check_json_target(json_target)
    found = cards()
    if json_target is not None:
        _console.write_json(json_target, [card.to_dict() for card in found])
        return
    for card in found:
        size = f"{card.parameters:,} parameters" if card.parameters else "no weights in the package"
        click.echo(f"{card.name:<14}{card.summary}")
        click.echo(f"{'':<14}{size}; licence {card.licence}; trained on {card.training_data}")


@command.command("show")
@click.argument("name")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def show_model(name: str, json_target: str | None) -> None:
    """Show the whole card of the model NAME: architecture, parameters, precisions, training data, licence."""
    from streamlight.models import describe

    _console.check_json_target(json_target)
    sheet = describe(name)
    _console.write_json(json_target, sheet.to_dict())
    if json_target != "-":
        click.echo("\n".join(sheet.lines()))


@command.command("check")
@click.argument("file")
@click.option("--ema", is_flag=True, help="Look at the averaged weights of a training checkpoint.")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def check_file(file: str, ema: bool, json_target: str | None) -> int:
    """Say what a weights FILE is and what is missing or too much in it; exit code 1 if it cannot be used."""
    from streamlight.models import check

    _console.check_json_target(json_target)
    description = check(file, ema=ema)
    _console.write_json(json_target, description.to_dict())
    if json_target != "-":
        click.echo("\n".join(description.lines()))
    return 0 if description.usable else 1


@command.command("convert")
@click.argument("source")
@click.argument("target")
@click.option("--ema", is_flag=True, help="Take the averaged weights of a training checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_console.common_options
def convert_file(source: str, target: str, ema: bool, overwrite: bool) -> None:
    """Write the weights of SOURCE (.pth or .safetensors) to TARGET (.safetensors): same names, same bits."""
    from streamlight.models import convert

    description = convert(source, target, ema=ema, overwrite=overwrite)
    _console.say(f"{target}: {description.architecture}, {description.parameters:,} parameters")


@command.command("credit")
@click.argument("file")
@click.option("--recipe", "recipes", multiple=True, required=True, metavar="FILE", help="In order, one per stage.")
@click.option("--data", required=True, metavar="DIR", help="Folder of the training data, with CREDITS.csv.")
@click.option("--note", default="", metavar="TEXT", help="What a user should know of these weights.")
@_console.common_options
def credit_file(file: str, recipes: tuple[str, ...], data: str, note: str) -> None:
    """Write beside the weights FILE what it was trained on: author, licence and source of every training file."""
    from pathlib import Path

    from streamlight.models.record import record_credits
    from streamlight.models.weights import read_weights
    from streamlight.training.credits import credits_of

    steps = read_weights(file).metadata.get("training_steps", "")
    found = credits_of(recipes, data)
    path = record_credits(
        file,
        recipes=[Path(recipe).name for recipe in recipes],
        credits=found,
        steps=int(steps) if steps.isdecimal() else None,
        note=note,
    )
    _console.say(f"{path}: {len(found)} files by {len({credit.author for credit in found})} authors")
