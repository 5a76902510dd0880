"""What every command shares: how much is said, and where. People are told on stderr, results go to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from streamlight.errors import ConfigError, MediaError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class _Settings:
    debug: bool = False
    verbosity: int = 0

    def reset(self) -> None:
        self.debug, self.verbosity = False, 0


settings = _Settings()


def common_options(function: F) -> F:
    """Add ``--debug``, ``-v`` and ``-q``, which may stand before or behind the command."""

    def set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        settings.debug = settings.debug or value

    def louder(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        settings.verbosity += value

    def quieter(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        settings.verbosity -= value

    for decorate in (
        click.option("--debug", is_flag=True, expose_value=False, callback=set_debug, help="Show tracebacks."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=quieter, help="Say errors only."),
        click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=louder, help="Say more."),
    ):
        function = decorate(function)
    return function


def error(message: str) -> None:
    """One line on stderr, however the message is formed."""
    click.echo(f"streamlight: {' '.join(message.split())}", err=True)


def say(message: str, *, level: int = 0) -> None:
    """A line on stderr, unless less was asked for; level 1 needs ``-v``."""
    if settings.verbosity >= level:
        click.echo(message, err=True)


def internal_error(problem: BaseException) -> str:
    """The line for an error that nobody foresaw."""
    return f"internal error, please report it ({type(problem).__name__}: {problem}; --debug shows the traceback)"


def check_json_target(target: str | None, *, option: str = "--json") -> None:
    """Refuse a target of ``--json`` or a like option that cannot be written before hours of work are spent.

    Raises:
        ConfigError: If it is a folder, or its folder does not exist.
    """
    if target is None or target == "-":
        return
    path = Path(target)
    if path.is_dir():
        raise ConfigError(f"{option} {target}: is a folder, expected a file or '-'")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{option} {target}: the folder {path.parent} does not exist")


def write_json(target: str | None, data: Any) -> None:
    """Write ``data`` to a file, or to stdout for ``"-"``; nothing if ``target`` is None.

    Raises:
        MediaError: If the file cannot be written.
    """
    if target is not None:
        write_text(target, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(target: str | None, text: str) -> None:
    """Write ``text`` to a file, or to stdout for ``"-"``; nothing if ``target`` is None.

    Raises:
        MediaError: If the file cannot be written.
    """
    if target is None:
        return
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, "utf-8")
    except OSError as problem:
        raise MediaError(f"cannot write {target}: {problem.strerror or problem}") from problem
