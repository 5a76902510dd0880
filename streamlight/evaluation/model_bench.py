"""Speed and memory of the generative models: what ``streamlight bench models`` measures.

Random weights in the published shapes; every case in a process of its own. ``of ceiling`` relates the speed reached to
that of a large matrix product, measured in the same process and precision.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from streamlight.errors import ConfigError, ModelError
from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.evaluation.model_case import ModelOrder, ModelSample


@dataclass(frozen=True, slots=True)
class Reference:
    """What the original implementation took for the same work on two cores of such a machine, float32.

    Attributes:
        seconds: Measured with the official code before this project began.
        note: What exactly was measured.
    """

    seconds: float
    note: str


@dataclass(frozen=True, slots=True)
class Target:
    """A published network, the picture it is measured on, and what the original took there."""

    architecture: str
    configuration: str
    width: int
    height: int
    keywords: dict[str, Any]
    reference: Reference | None


TARGETS: Final[dict[str, Target]] = {
    "llflow": Target("llflow", "LOL-pc", 600, 400, {}, Reference(16.0, "600x400, 16 to 21 s")),
    "llflow-small": Target("llflow", "LOL_smallNet", 600, 400, {}, Reference(1.5, "600x400, 1.5 to 1.6 s")),
    "glare": Target("glare", "LOL, LOL-v2-real (net_G)", 600, 400, {}, Reference(77.0, "600x400")),
    "lldiffusion-step": Target(
        "lldiffusion", "deg-unet-lol", 640, 416, {"steps": 1}, Reference(13.1, "one U-Net evaluation at 640x416")
    ),
}
"""What is measured when nothing else is asked for."""

DTYPES: Final = ("float32", "bfloat16")
"""Precisions that are measured when nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class ModelFigure:
    """One target in one precision.

    Attributes:
        target: Key of :data:`TARGETS`.
        picture: Size, as ``WIDTHxHEIGHT``.
        dtype: Working precision.
        sample: What was measured.
        gflops: Speed reached, in GFLOP/s: two operations a multiply-accumulate.
        of_ceiling: ``gflops`` over the matrix product's.
        of_reference: Seconds over the original's, or None where nothing is known of it at this size.
    """

    target: str
    picture: str
    dtype: str
    sample: ModelSample
    gflops: float
    of_ceiling: float
    of_reference: float | None


@dataclass(frozen=True, slots=True)
class ModelBench:
    """What was measured, on what, by which command."""

    machine: Machine
    command: str
    figures: list[ModelFigure]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Machine, command and a table."""
        heads = ("target", "picture", "dtype", "s", "of original", "GMAC", "GFLOP/s", "of ceiling", "peak MB")
        rows = [heads, *(_cells(figure) for figure in self.figures)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
        table = ["  ".join(_padded(row, widths)) for row in rows]
        return [f"$ {self.command}", *self.machine.lines(), "", *table]


def _cells(f: ModelFigure) -> tuple[str, ...]:
    return (
        f.target,
        f.picture,
        f.dtype,
        f"{f.sample.seconds:.2f}",
        f"{f.of_reference:.2f}" if f.of_reference is not None else "",
        f"{f.sample.macs / 1e9:.0f}",
        f"{f.gflops:.0f}",
        f"{f.of_ceiling:.2f}",
        f"{f.sample.peak_memory / 1e6:.0f}",
    )


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]


def parse_size(text: str) -> tuple[int, int]:
    """``"1280x720"`` → ``(1280, 720)``.

    Raises:
        ConfigError: It does not read like that.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"size must look like 1280x720, got {text!r}")
    return int(parts[0]), int(parts[1])


def bench_models(
    targets: Sequence[str] = tuple(TARGETS),
    *,
    dtypes: Sequence[str] = DTYPES,
    size: tuple[int, int] | None = None,
    repeat: int = 1,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> ModelBench:
    """Measure.

    Args:
        targets: Keys of :data:`TARGETS`.
        dtypes: Working precisions.
        size: Width and height instead of each target's own.
        repeat: Timed runs of each case; the median counts.
        command: How the benchmark was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: A target is unknown or a number out of range.
        ModelError: A case failed.
    """
    if repeat < 1 or (size is not None and min(size) < 1):
        raise ConfigError(f"expected repeat >= 1 and a positive size, got {repeat} and {size}")
    for name in targets:
        if name not in TARGETS:
            raise ConfigError(f"unknown target '{name}'; there are {', '.join(TARGETS)}")
    figures = []
    for name in targets:
        for dtype in dtypes:
            progress(f"{name}, {dtype}")
            figures.append(_figure(name, dtype, size, repeat))
    return ModelBench(describe_machine(), command, figures)


def _figure(name: str, dtype: str, size: tuple[int, int] | None, repeat: int) -> ModelFigure:
    target = TARGETS[name]
    width, height = size or (target.width, target.height)
    order = ModelOrder(target.architecture, target.configuration, width, height, dtype, repeat, target.keywords)
    sample = run_model_case(order)
    gflops = 2e-9 * sample.macs / sample.seconds
    known = target.reference if (width, height) == (target.width, target.height) else None
    return ModelFigure(
        name,
        f"{width}x{height}",
        dtype,
        sample,
        gflops,
        gflops / sample.peak_gflops,
        sample.seconds / known.seconds if known else None,
    )


def run_model_case(order: ModelOrder) -> ModelSample:
    """Run one case in a process of its own.

    Raises:
        ModelError: The case failed; the message says why.
    """
    child = subprocess.run(
        [sys.executable, "-m", "streamlight.evaluation.model_case", json.dumps(asdict(order))],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = child.stdout.strip().splitlines()
    if child.returncode or not lines:
        why = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise ModelError(f"benchmark of {order.architecture} in {order.dtype} failed: {why}")
    return ModelSample(**json.loads(lines[-1]))
