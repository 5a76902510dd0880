"""AVI knows no presentation times: frames sit on a fixed grid, and a slot may be empty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd
from typing import Self

MAX_GRID_RATE = 120
"""Finest exact grid, in slots a second; an empty slot costs 24 bytes, and players count it as a dropped frame."""


@dataclass(slots=True)
class FrameGrid:
    """A constant rate and the slot of every frame.

    Attributes:
        time_base: Seconds per slot.
        first: Time of slot 0, in seconds.
        losses: What the grid cannot express, in words.
        error: Largest distance of a frame from its slot, in seconds; filled by `slots`.
    """

    source_base: Fraction
    time_base: Fraction
    first: Fraction
    losses: list[str] = field(default_factory=list)
    error: Fraction = Fraction(0)

    @classmethod
    def measure(cls, times: Iterator[int], time_base: Fraction) -> Self:
        """The exact grid of these times if it is coarse enough, else one near the mean rate.

        Args:
            times: Sorted presentation times, at least one.
            time_base: Seconds per unit of them.
        """
        first = last = next(times)
        count, unit = 1, 0
        for time in times:
            unit = gcd(unit, time - last)
            count, last = count + 1, time
        start = first * time_base
        losses = []
        if start:
            losses.append(f"the picture starts at {float(start):g} s in the source: AVI starts every stream at 0")
        if count == 1:
            return cls(time_base, Fraction(1, 25), start, losses)
        if unit * time_base >= Fraction(1, MAX_GRID_RATE):
            return cls(time_base, unit * time_base, start, losses)
        mean = (last - first) * time_base / (count - 1)
        slot = _snap(mean)
        if slot is None:
            slot = Fraction(1, MAX_GRID_RATE)
            losses.append(
                f"variable frame rate: AVI has no frame times, frames moved to the nearest 1/{MAX_GRID_RATE} s"
            )
        return cls(time_base, slot, start, losses)

    def slots(self, times: Iterator[int]) -> Iterator[int]:
        """The slot of every frame: nearest to its time, never two frames in one."""
        last = -1
        for time in times:
            exact = (time * self.source_base - self.first) / self.time_base
            slot = max(last + 1, int(exact + Fraction(1, 2)))
            self.error = max(self.error, abs(exact - slot) * self.time_base)
            last = slot
            yield slot


def _snap(mean: Fraction) -> Fraction | None:
    """A standard frame duration within 0.05 % of the mean: times that were only rounded (milliseconds) lie on it."""
    for rate in (24, 25, 30, 50, 60, 100, 120, 10, 12, 15, 5, 1):
        for exact in (Fraction(1, rate), Fraction(1001, rate * 1000)):
            if abs(mean - exact) < exact / 2000:
                return exact
    return None
