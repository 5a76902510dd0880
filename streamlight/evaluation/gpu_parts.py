"""Measuring in parts: what a part has found is told at once, and one that fails does not take the others along."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from streamlight.errors import StreamlightError
from streamlight.evaluation.gpu_rows import GpuSample


class Parts:
    """Collects what the parts of a case find.

    Args:
        tell: Is given the sample as JSON behind every part.

    Attributes:
        sample: All that was found so far.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self.sample = GpuSample()
        self._tell = tell

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Whatever is raised inside becomes the reason why ``name`` failed."""
        try:
            yield
        except Exception as error:  # a card fails in many ways, and each is a result of this benchmark
            self.sample.failed[name] = reason(error)
        for key in [key for key, value in self.sample.figures.items() if not math.isfinite(value)]:
            del self.sample.figures[key]
            self.sample.failed[key] = "is not a finite number"
        self._tell(json.dumps(asdict(self.sample), allow_nan=False))


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    return first if isinstance(error, StreamlightError) and first else f"{type(error).__name__}: {first}"


def read_sample(output: str) -> GpuSample | None:
    """The last sample that a process told; None if it came to none."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                told = json.loads(line)
                sample = GpuSample(told["figures"], told["notes"], told["failed"])
                sample.spans = [(str(lane), int(k), float(a), float(b)) for lane, k, a, b in told["spans"]]
            except (ValueError, KeyError, TypeError):  # cut off, or somebody else's line
                continue
            return sample
    return None
