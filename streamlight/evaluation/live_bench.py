"""Live runs through faults and under load: what ``streamlight bench live`` measures.

The cameras and the media server are those of :mod:`streamlight.evaluation.live_server`, on this machine; the live run
is a process of its own (:mod:`streamlight.evaluation.live_process`) and is watched from outside.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from streamlight.errors import ConfigError
from streamlight.evaluation.live_fault_cases import faults, publish
from streamlight.evaluation.live_load_cases import cameras, latency, overload, soak
from streamlight.evaluation.live_rows import Progress, Row
from streamlight.evaluation.machine import Machine, describe_machine

CASES: Final = ("faults", "latency", "overload", "cameras", "publish", "soak")


@dataclass(frozen=True, slots=True)
class LiveBench:
    """What was measured, on what, by which command.

    Attributes:
        command: How it was called.
        machine: Where.
        load: Other work on the machine as it began: load average over a minute; None where the system does not say.
        priority: Scheduling priority it ran with, where it was not the usual one; negative is before other work.
        rows: The figures in order.
    """

    command: str
    machine: Machine
    load: float | None
    priority: str
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [row.to_dict() for row in self.rows]
        head = {
            "machine": self.machine.to_dict(),
            "command": self.command,
            "load": self.load,
            "priority": self.priority,
        }
        return head | {"rows": rows}

    def lines(self) -> list[str]:
        """The table for people."""
        found = [f"$ {self.command}", *self.machine.lines()]
        if self.load is not None:
            found.append(f"load average at the beginning {self.load:.1f}" + (self.priority and f"; {self.priority}"))
        found.append("")
        table = [("", "", "", "goal", "")]
        for row in self.rows:
            goal = f"<= {row.most:g}" if row.most is not None else f">= {row.least:g}" if row.least is not None else ""
            met = {True: "met", False: "NOT MET", None: ""}[row.met]
            table.append((row.case, row.figure, f"{_figure(row.value)} {row.unit}".strip(), goal, met))
        widths = [max(len(line[column]) for line in table) for column in range(5)]
        notes = ["", *(row.note for row in self.rows)]
        for cells, note in zip(table, notes, strict=True):
            padded = [
                cell.rjust(width) if i == 2 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            found.append("  ".join([*padded, note]).rstrip())
        return found


def bench_live(
    cases: Sequence[str] = (),
    *,
    seconds: float = 30.0,
    fault_count: int = 20,
    camera_count: int = 4,
    away: float = 10.0,
    minutes: float = 2.0,
    seed: int = 1,
    command: str = "",
    progress: Progress = lambda _: None,
) -> LiveBench:
    """Measure.

    Args:
        cases: Of :data:`CASES`, in this order; none for all.
        seconds: How long each load is watched.
        fault_count: Faults of the camera, five kinds in equal shares.
        camera_count: Cameras at a time.
        away: Seconds that the server published to is away.
        minutes: Length of the soak.
        seed: Of the order and length of the faults.
        command: How the benchmark was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: A case is unknown, or a number is out of range.
        DeviceError: There is no RTSP server to rehearse with.
        MediaError: A live run failed.
    """
    if unknown := set(cases) - set(CASES):
        raise ConfigError(f"unknown case {', '.join(sorted(unknown))}; expected {', '.join(CASES)}")
    if seconds < 2 or fault_count < 1 or camera_count < 2 or away < 1 or minutes < 0.5:
        raise ConfigError(
            f"expected seconds >= 2, faults >= 1, cameras >= 2, away >= 1 and minutes >= 0.5, got {seconds}, "
            f"{fault_count}, {camera_count}, {away}, {minutes}"
        )
    todo: dict[str, Callable[..., list[Row]]] = {
        "faults": partial(faults, count=fault_count, seed=seed),
        "latency": partial(latency, seconds=seconds),
        "overload": partial(overload, seconds=seconds),
        "cameras": partial(cameras, seconds=seconds, count=camera_count),
        "publish": partial(publish, away=away),
        "soak": partial(soak, minutes=minutes),
    }
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="streamlight-bench-") as folder:
        for case in cases or CASES:
            progress(case)
            rows += todo[case](Path(folder), progress=progress)
    return LiveBench(command, describe_machine(), load, _priority(), rows)


def _priority() -> str:
    """Nice values that are not 0, of this process and (on Linux with autogroups) of its session."""
    nice = [("nice", os.nice(0) if hasattr(os, "nice") else 0)]
    with suppress(OSError, ValueError):
        nice.append(("session nice", int(Path("/proc/self/autogroup").read_text().rpartition(" ")[2])))
    return ", ".join(f"{what} {value}" for what, value in nice if value)


def _figure(value: float) -> str:
    if value == float("inf"):
        return "never"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"
