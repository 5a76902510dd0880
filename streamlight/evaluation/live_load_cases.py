"""The live benchmark's loads: one large camera, too much of it, several cameras, and a long time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from streamlight.evaluation.live_fault_cases import entry
from streamlight.evaluation.live_process import LiveProcess, Seen
from streamlight.evaluation.live_rows import (
    Progress,
    Row,
    age,
    camera_clip,
    causes,
    percentiles,
    rate_of,
    unaccounted,
)
from streamlight.evaluation.live_server import RtspServer
from streamlight.media.clips import repeat_clip

FULL_HD, SMALL = (1920, 1080), (640, 360)
OVERLOAD = 3
MAX_LATENCY = 250
_WARM = 4.0
_CAPACITY_REPEATS = 3
_TURNS = 4


def latency(folder: Path, *, seconds: float, progress: Progress) -> list[Row]:
    """One 1080p camera with 30 frames a second: handed over alone, then published too."""
    rows = []
    for published in (False, True):
        case = "1080p30, published" if published else "1080p30"
        with ExitStack() as stack:
            camera = stack.enter_context(RtspServer(source=camera_clip(folder, FULL_HD), record=()))
            to = None
            if published:
                to = stack.enter_context(RtspServer(mounts=())).url("enhanced")
            run = stack.enter_context(LiveProcess([entry("gate", camera, to=to)]))
            frames, report = _measure(run, "gate", seconds)
        progress(f"{case}: {len(frames)} frames")
        found, account = percentiles(frames), report["cameras"][0]
        note = f"rung {report['ladder']['rung']}, {report['ladder']['steps_down']} steps down; "
        note += f"{share(account)}; dropped of all: {causes(account)}"
        rows += [Row(case, f"latency {key}", found[key], "ms", most=250 if key == "p95" else None) for key in found]
        rows += age(case, frames)
        rows.append(Row(case, "frames handed over", rate_of(frames), "fps", note=note))
        if published:
            delivery = account["delivery"][0]
            sent = delivery["written"] / max(delivery["offered"], 1)
            rows.append(Row(case, "of them published", sent, note=f"not: {dict(delivery['dropped'])}"))
    return rows


def overload(folder: Path, *, seconds: float, progress: Progress) -> list[Row]:
    """A 1080p camera that sends three times what this machine manages."""
    case = "overload"
    capacity = _capacity(folder)
    rate = round(OVERLOAD * capacity)
    progress(f"{case}: the machine manages {capacity:.0f} fps, the camera sends {rate}")
    with (
        RtspServer(source=camera_clip(folder, FULL_HD), rate=rate, record=()) as camera,
        LiveProcess([entry("gate", camera)], values={"max_latency": MAX_LATENCY}) as run,
    ):
        frames, report = _measure(run, "gate", seconds)
    account, found = report["cameras"][0], percentiles(run.account.frames["gate"])
    total = account["frames"]
    note = f"{total['in']} in, {total['out']} out; dropped: {causes(account)}"
    steps = f"{report['ladder']['steps_down']} steps down, {report['ladder']['steps_up']} up"
    return [
        Row(case, "managed from a file", capacity, "fps"),
        Row(case, "sent by the camera", rate, "fps", note=f"{OVERLOAD} times as much"),
        *(Row(case, f"latency {key}", found[key], "ms") for key in ("p50", "p95", "p99")),
        Row(case, "latency max", found["max"], "ms", most=MAX_LATENCY, note=f"--max-latency {MAX_LATENCY}"),
        *age(case, frames),
        Row(case, "frames handed over", rate_of(frames), "fps", note=f"rung {report['ladder']['rung']}, {steps}"),
        Row(case, "share of frames dropped", sum(account["dropped"].values()) / max(total["in"], 1)),
        Row(case, "frames not accounted for", abs(unaccounted(account)), most=0, note=note),
    ]


def cameras(folder: Path, *, seconds: float, count: int, progress: Progress) -> list[Row]:
    """Several small cameras; one of them is killed and comes back, in turns, so that other load falls on both."""
    names = [f"camera{number + 1}" for number in range(count)]
    alive, dead = [], []
    with ExitStack() as stack:
        clip = camera_clip(folder, SMALL)
        servers = [stack.enter_context(RtspServer(source=clip, rate=25, record=())) for _ in names]
        run = stack.enter_context(LiveProcess([entry(n, s) for n, s in zip(names, servers, strict=True)]))
        for turn in range(_TURNS):
            if turn:
                servers[0].start()
            for name in names:
                run.wait_for_frames(name, 10)
            time.sleep(_WARM)
            alive.append(_span(seconds / _TURNS))
            servers[0].kill()
            progress(f"cameras: {names[0]} is killed, {turn + 1} of {_TURNS}")
            time.sleep(1.0)
            dead.append(_span(seconds / _TURNS))
        report, _ = run.stop()
    rows, changes = [], []
    for name in names:
        with_all, without = ([run.account.between(name, *span) for span in spans] for spans in (alive, dead))
        rows.append(Row("cameras", f"{name}: frames handed over", _middle(with_all, rate_of), "fps", least=15.0))
        p95 = [_middle(parts, lambda frames: percentiles(frames)["p95"]) for parts in (with_all, without)]
        rows.append(Row("cameras", f"{name}: latency p95", p95[0], "ms"))
        if name != names[0]:
            changes.append(p95[1] / p95[0])
            rows.append(Row("cameras", f"{name}: latency p95 when {names[0]} is dead", p95[1], "ms"))
    note = f"medians of {_TURNS} turns"
    rows.append(Row("cameras", "p95 of the others when one is dead, largest ratio", max(changes), most=1.2, note=note))
    lost = sum(abs(unaccounted(camera)) for camera in report["cameras"])
    rows.append(Row("cameras", "frames not accounted for", lost, most=0))
    return rows


def soak(folder: Path, *, minutes: float, progress: Progress) -> list[Row]:
    """A camera that is published, recorded and looked at for long, and restarts every minute."""
    recorded = folder / "soaked"
    recorded.mkdir()
    with (
        RtspServer(source=camera_clip(folder, SMALL), rate=15, record=()) as camera,
        RtspServer(mounts=()) as media,
        LiveProcess(
            [entry("gate", camera, to=media.url("enhanced"), record=recorded)],
            values={"record_seconds": 30},
            detect="motion",
        ) as run,
    ):
        run.wait_for_frames("gate", 30)
        begin = time.monotonic()
        restarts = 0
        while (left := begin + 60.0 * minutes - time.monotonic()) > 0:
            time.sleep(min(left, 60.0 if minutes > 3 else 20.0))
            if left > 60.0:
                camera.restart()
                restarts += 1
            for old in sorted(recorded.rglob("*.mp4"))[:-4]:
                old.unlink()  # hours of recordings would fill the disk
            progress(f"soak: {(time.monotonic() - begin) / 60:.1f} of {minutes:g} minutes, {_held(run)}")
        report, closing = run.stop()
    return [*_growth(run.account.usage, begin, minutes), *_soaked(report, closing, restarts)]


def share(account: dict[str, Any]) -> str:
    """What was done to the pictures, in words."""
    done = {key: value for key, value in account["pictures"].items() if key != "infrared"}
    return ", ".join(f"{value} {key}" for key, value in done.items())


def _span(seconds: float) -> tuple[float, float]:
    """Wait; the beginning and the end of it."""
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, begin + seconds


def _middle(parts: Sequence[Sequence[Seen]], figure: Callable[[Sequence[Seen]], float]) -> float:
    """Median of a figure over parts of a run."""
    return float(np.median([figure(part) for part in parts]))


def _measure(run: LiveProcess, camera: str, seconds: float) -> tuple[list[Any], dict[str, Any]]:
    """Let it warm up, watch it for so long, end it."""
    run.wait_for_frames(camera, 10)
    time.sleep(_WARM)
    span = _span(seconds)
    report, _ = run.stop()
    return run.account.between(camera, *span), report


def _capacity(folder: Path) -> float:
    """Frames a second from a 1080p file that waits for its reader, with the settings of a live run."""
    clip = folder / "capacity.mp4"
    repeat_clip(camera_clip(folder, FULL_HD), clip, _CAPACITY_REPEATS)
    with LiveProcess([{"name": "file", "url": str(clip)}]) as run:
        run.wait_for_end(timeout=300.0)
        frames = run.account.frames["file"]
    return rate_of(frames[len(frames) // 3 :])


def _held(run: LiveProcess) -> str:
    now = run.account.usage[-1]
    return f"{now['memory'] / 1e6:.0f} MB, {now['threads']:.0f} threads, {now['files']:.0f} descriptors"


def _growth(usage: list[dict[str, float]], begin: float, minutes: float) -> list[Row]:
    """Compare the time after the warm-up (a fifth of it all) with the end."""
    warm = begin + 12.0 * minutes
    kept = [sample for sample in usage if sample["at"] >= warm]
    part = max(len(kept) // 5, 1)

    def change(key: str) -> tuple[float, float]:
        first, last = (float(np.median([s[key] for s in some])) for some in (kept[:part], kept[-part:]))
        return first, last

    rows = []
    for key, what in (("memory", "memory of the process"), ("children", "memory of its publishers")):
        first, last = change(key)
        note = f"{first / 1e6:.0f} to {last / 1e6:.0f} MB"
        rows.append(Row("soak", f"{what}, end over warm", last / max(first, 1), most=1.05, note=note))
    for key, what in (("threads", "threads"), ("files", "descriptors")):
        first, last = change(key)
        rows.append(Row("soak", f"more {what} at the end", last - first, most=0, note=f"{first:.0f} to {last:.0f}"))
    return rows


def _soaked(report: dict[str, Any], closing: float, restarts: int) -> list[Row]:
    camera = report["cameras"][0]
    note = f"{restarts} restarts, {camera['frames']['in']} in, {camera['frames']['out']} out; dropped: {causes(camera)}"
    return [
        Row("soak", "frames not accounted for", abs(unaccounted(camera)), most=0, note=note),
        Row("soak", "end after being told to", closing, "s", most=5.0),
    ]
