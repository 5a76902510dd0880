"""What the models in the package are meant to reach, checked against what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

NIGHT: Final = "tonenet,look=night"
DAY: Final = "tonenet,look=day"
PLAIN: Final = ",denoiser=off"
GENERATIVE: Final = ("glare", "lldiffusion", "llflow")

SYNTHETIC: Final = "synthetic"
REAL: Final = "real pairs"
CODED: Final = "x264 crf 20"
RAW: Final = "raw"
NOISY_CLIP: Final = "ken2190_night.mp4"
FASTEST: Final = "ultrafast"
SPEED: Final = f"1080p end to end, slowest clip, x264 {FASTEST}"

Lookup = Callable[[str, str, str], float | None]
"""(part of the table, contender, figure) → value, None where it was not measured."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure and its limit; give one of ``least``, ``most``, ``than``.

    Attributes:
        part: Part of the table.
        label: The contender.
        key: The figure.
        least: It is at least this.
        most: It is at most this.
        than: It is at least that of this contender.
    """

    part: str
    label: str
    key: str
    least: float | None = None
    most: float | None = None
    than: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal and what was reached.

    Attributes:
        goal: The goal.
        value: What was measured.
        limit: What it is held against.
    """

    goal: Goal
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.value <= self.limit if self.goal.most is not None else self.value >= self.limit


GOALS: Final = (
    Goal(REAL, DAY, "psnr", least=20.5),
    Goal(REAL, DAY, "ssim", least=0.81),
    Goal(REAL, DAY, "gt_mean", least=25.0),
    *(
        Goal(coding, look, key, than=look + PLAIN)
        for look in (NIGHT, DAY)
        for coding in (CODED, RAW)
        for key in ("gt_mean", "moving", "static")
    ),
    Goal(NOISY_CLIP, NIGHT, "noise", most=0.6),
    Goal(NOISY_CLIP, NIGHT, "flicker", most=0.8),
    Goal(SPEED, NIGHT, "fps", least=45.0),
    *(
        Goal(pictures, label, key, than="retinex")
        for label in GENERATIVE
        for pictures in (REAL, SYNTHETIC)
        for key in ("psnr", "ssim")
    ),
)


def outcomes(lookup: Lookup, *, goals: Sequence[Goal] = GOALS) -> list[Outcome]:
    """The goals whose figures were measured, in order."""
    found = []
    for goal in goals:
        value = lookup(goal.part, goal.label, goal.key)
        limit = lookup(goal.part, goal.than, goal.key) if goal.than else goal.least
        limit = goal.most if limit is None else limit
        if value is not None and limit is not None:
            found.append(Outcome(goal, value, limit))
    return found
