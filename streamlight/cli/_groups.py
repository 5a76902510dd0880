"""Commands with sub-commands of which one is meant when none is named."""

from __future__ import annotations

from typing import Any

import click


class DefaultGroup(click.Group):
    """A group that hands what does not begin with a sub-command to the one called ``default``.

    So ``streamlight bench clip.mp4`` is ``streamlight bench video clip.mp4``.
    """

    def __init__(self, *args: Any, default: str, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default's name in front where no sub-command is named."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
