"""What can be trained, by the name that a recipe gives it. Nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from streamlight.training.task import Task

TASKS: Final[dict[str, str]] = {
    "glare_flow": "streamlight.training.tasks.glare:FlowTask",
    "glare_fusion": "streamlight.training.tasks.glare:FusionTask",
    "glare_vqgan": "streamlight.training.tasks.glare:VQGANTask",
    "lldiffusion": "streamlight.training.tasks.lldiffusion:LLDiffusionTask",
    "llflow": "streamlight.training.tasks.llflow:LLFlowTask",
    "tonenet": "streamlight.training.tasks.tonenet:TonenetTask",
}
"""Name → ``module:attribute`` of a :class:`TaskEntry`."""


class TaskEntry(Protocol):
    """How a task is made from its section of a recipe.

    Attributes:
        Options: Pydantic model of the section.
    """

    Options: type[Any]

    def build(self, options: Any, *, start: Path | None, device: Any) -> Task:
        """The task, ready to train.

        Args:
            options: An instance of :attr:`Options`.
            start: Weights file to start from.
            device: Where it runs.
        """
        ...


def find_task(name: str) -> TaskEntry:
    """The entry of one of :data:`TASKS`.

    Raises:
        KeyError: There is none of this name.
    """
    module, attribute = TASKS[name].split(":")
    entry: TaskEntry = getattr(import_module(module), attribute)
    return entry
