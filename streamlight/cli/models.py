"""List the models, what they are for, and their licences."""

from __future__ import annotations

import click

from streamlight.cli import _console


@click.command("models")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def command(json_target: str | None) -> None:
    """List the models that --model takes."""
    from streamlight.models import cards

    _console.check_json_target(json_target)
    found = cards()
    if json_target is not None:
        _console.write_json(json_target, [card.to_dict() for card in found])
        return
    for card in found:
        size = f"{card.parameters:,} parameters" if card.parameters else "no weights"
        click.echo(f"{card.name:<14}{card.summary}")
        click.echo(f"{'':<14}{size}; licence {card.licence}; trained on {card.training_data}")
