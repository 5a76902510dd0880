"""Click options made from the schema: none is written down twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from streamlight.config import JOB_SECTIONS, Config, Option, load_config, options, preset_names

F = TypeVar("F", bound=Callable[..., Any])


class _Text(click.ParamType):
    """Passes the text on: the schema judges it, so that a value is refused in the same words everywhere."""

    name = "text"

    def __init__(self, choices: tuple[str, ...], metavar: str) -> None:
        self.choices = choices
        self._metavar = metavar

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands behind the option in the help."""
        return self._metavar

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete one of the choices."""
        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]


def config_options(function: F) -> F:
    """Add ``--preset``, ``--config`` and one option per field of the schema that is about files."""
    return options_of(*JOB_SECTIONS)(function)


def options_of(*places: str) -> Callable[[F], F]:
    """Like :func:`config_options`, for the options of some sections or single fields (``"run.workers"``) only."""

    def decorate(function: F) -> F:
        for option in reversed(options()):
            if option.section in places or option.key in places:
                function = _decorator(option)(function)
        names = preset_names()
        function = click.option(
            "--config", "config_file", type=click.Path(), metavar="FILE", help="YAML file with settings of your own."
        )(function)
        return click.option("--preset", type=_Text(tuple(names), "NAME"), help=f"One of {', '.join(names)}.")(function)

    return decorate


def config_from_options(preset: str | None, config_file: str | None, values: dict[str, Any]) -> Config:
    """The configuration from what was given on the command line.

    Raises:
        ConfigError: As :func:`streamlight.config.load_config`.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return load_config(preset=preset, file=config_file, values=given)


def _decorator(option: Option) -> Callable[[F], F]:
    if option.is_flag:
        return click.option(f"{option.flag}/--no-{option.flag[2:]}", option.name, default=None, help=option.help)
    metavar = "|".join(option.choices) if option.choices else option.name.rsplit("_", 1)[-1].upper()
    limits = "" if option.choices else f"  [{option.expected}]"
    default = "" if option.default is None or option.default == () else f"  [default: {option.default}]"
    return click.option(
        option.flag, option.name, type=_Text(option.choices, metavar), default=None, help=option.help + limits + default
    )
