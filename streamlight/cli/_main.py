"""The group of all commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import ast
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

import streamlight
from streamlight.cli import _console
from streamlight.errors import ConfigError, StreamlightError

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


class _Commands(click.Group):
    """Finds the commands among the modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the modules that hold commands."""
        package = import_module("streamlight.cli")
        return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"streamlight.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first line of their modules' docstrings, importing none of them."""
        folder = Path(__file__).parent
        rows = []
        for name in self.list_commands(ctx):
            tree = ast.parse((folder / f"{name}.py").read_text("utf-8"))
            rows.append((name, (ast.get_docstring(tree) or "").splitlines()[0]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for an unknown one."""
        from streamlight.config import suggestion

        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            raise click.UsageError(
                f"unknown command '{args[0]}'{suggestion(args[0], names)} (commands: {', '.join(names)})"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(streamlight.__version__, prog_name="streamlight")
@_console.common_options
def group() -> None:
    """Low-light video in, video that a person or a detector can use out."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run the command line; returns the exit code. Errors end as one line on stderr."""
    _console.settings.reset()
    try:
        outcome = group.main(args=argv, prog_name="streamlight", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_USE
    except click.ClickException as error:
        where = f" (see '{error.ctx.command_path} --help')" if isinstance(error, click.UsageError) and error.ctx else ""
        return _say(error, error.format_message().rstrip(".") + where, WRONG_USE)
    except (KeyboardInterrupt, click.Abort):
        return _say(None, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, for example `| head`: no traceback at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ConfigError as error:
        return _say(error, str(error), WRONG_USE)
    except StreamlightError as error:
        return _say(error, str(error), FAILED)
    except Exception as error:
        return _say(error, _console.internal_error(error), FAILED)


def _say(error: BaseException | None, message: str, code: int) -> int:
    if error is not None and _console.settings.debug:
        traceback.print_exception(error, file=sys.stderr)
    _console.error(message)
    return code
