"""Parts of ``streamlight bench temporal`` that need scenes of their own: a cut, a scene that stands still, 1080p."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Final

import numpy as np

from streamlight.enhance import Enhancer
from streamlight.evaluation import stability
from streamlight.evaluation.fidelity import Fidelity
from streamlight.evaluation.temporal_clips import PairedClip, drawn_clip
from streamlight.evaluation.temporal_rows import Row
from streamlight.evaluation.temporal_ways import Subject, enhance_frames
from streamlight.evaluation.truth import RATE, frame_of, night_scene
from streamlight.media import Frame
from streamlight.temporal import StreamState

Tell = Callable[[str], None]

STILL_SIZE: Final = (128, 72)
SETTLED: Final = 250
"""Frames, ten seconds, after which exposures have settled and drift begins; a third of a shorter scene."""

FULL: Final = (1920, 1080)
COLD_STEPS: Final = 25
FULL_STEPS: Final = 4
"""Sampling steps for full frames, in both modes: with 25, one frame in direct mode takes many minutes."""

KEYED: Final = 3
"""Frames from one key frame to the next where there are some."""

FULL_FRAMES: Final = KEYED + 1


def cut_row(subject: Subject) -> Row:
    """How far the first frame behind a cut is from what a cold start makes of it, 1 = white."""
    clip = drawn_clip("yard", frames=7, width=192, height=108, cut=5)
    assert clip.cut is not None
    values = {"temperature": 1.0} if subject.samples else {}
    with closing(subject.open(**values)) as enhancer:
        warm = enhance_frames(enhancer, clip.dark[: clip.cut + 1], mode=subject.mode).frames[-1]
        cold = enhance_frames(enhancer, [clip.dark[clip.cut]], mode=subject.mode).frames[0]
    apart = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(warm.planes, cold.planes, strict=True))
    return Row("cut", subject.label, apart / warm.color.luma_scale()[1])


def still_rows(subject: Subject, *, frames: int, tell: Tell) -> tuple[list[Row], list[float]]:
    """Drift of mean luma and growth of memory on a scene in which only the noise changes.

    Args:
        subject: The model.
        frames: How many.
        tell: Told how far it is, now and then.

    Returns:
        The rows, and mean luma above black of each frame, codes of 8 bit.
    """
    width, height = STILL_SIZE
    scene = night_scene("yard", frames=frames, width=width, height=height, still=True)
    levels, resident, held = [], [], []
    early = min(SETTLED, frames // 3)
    values = {"temperature": 1.0} if subject.samples else {}
    with closing(subject.open(**values)) as enhancer:
        state = enhancer.new_state()
        for index, made in enumerate(scene, 1):
            frame = frame_of(made, "dark")
            enhancer([frame], [state])
            offset, _ = frame.color.luma_scale()
            levels.append(float(frame.planes[0].mean(dtype=np.float64)) - offset)
            if index in (early, frames):
                held.append(_held(enhancer, state))
                resident.append(_resident())
            if index % 1000 == 0:
                tell(f"{subject.label}: still scene, {index} of {frames} frames")
    seconds = [index / float(RATE) for index in range(frames)]
    drift = stability.drift(levels[early:], seconds[early:])
    spread = drift.spread * 255.0 / 219.0 if drift is not None else 0.0
    note = f"{frames} frames of {width}x{height}"
    rows = [Row("still_drift", subject.label, spread, note=note)]
    if resident[0]:
        told = f"{note}; resident {resident[0] / 1e6:.0f} → {resident[-1] / 1e6:.0f} MB"
        told += f", state {held[0] / 1e6:.2f} → {held[-1] / 1e6:.2f} MB"
        grown = max(resident[-1] / resident[0], held[-1] / max(held[0], 1))
        rows.append(Row("still_memory", subject.label, grown, note=told))
    return rows, levels


def warm_rows(subject: Subject, clips: Sequence[PairedClip]) -> list[Row]:
    """A sampler that starts from the last result beside one that starts from noise, the same noise for every frame.

    Noise drawn anew would compare one draw with the mean of many.

    Args:
        subject: A model that takes sampling steps.
        clips: To measure on.
    """
    found: dict[str, tuple[float, float]] = {}
    for name, values in (("cold", {"stability": 0.0}), ("warm", {})):
        psnr, seconds = [], []
        with closing(subject.open(temperature=1.0, steps=COLD_STEPS, **values)) as enhancer:
            for clip in clips:
                made = enhance_frames(enhancer, clip.dark, mode=subject.mode)
                seconds += made.seconds
                psnr.append(fidelity(made.frames, clip.clean))
        found[name] = sum(psnr) / len(psnr), 1.0 / median(seconds)
    (before, slow), (after, fast) = found["cold"], found["warm"]
    note = f"{len(clips)} clips of {len(clips[0].dark)} frames, {clips[0].size}; median of the frames"
    return [
        Row("warm", subject.label, after, before, note),
        Row("warm_speed", subject.label, fast, slow, note),
    ]


def full_clip(tell: Tell) -> PairedClip:
    """Some frames of a drawn scene at 1080p, without a cut."""
    tell("drawing frames of 1080p")
    return drawn_clip("yard", frames=FULL_FRAMES, width=FULL[0], height=FULL[1], cut=FULL_FRAMES)


def guided_rows(subject: Subject, clip: PairedClip, *, tell: Tell) -> list[Row]:
    """Guided mode beside direct mode on full frames: on the one before the second key frame, direct mode on it alone.

    Args:
        subject: A model that works on RGB pictures.
        clip: From :func:`full_clip`.
        tell: Told what is being done.
    """
    judged = KEYED - 1
    values: dict[str, float] = {"temperature": 1.0} if subject.samples else {}
    values |= {"steps": FULL_STEPS} if subject.steps else {}
    tell(f"{subject.label}: direct, {clip.size}")
    with closing(subject.open(mode="direct", **values)) as enhancer:
        enhance_frames(enhancer, [_corner(clip.dark[0])], mode="direct")  # what is prepared once is no frame's time
        direct = enhance_frames(enhancer, [clip.dark[judged]], mode="direct")
    before, slow = fidelity(direct.frames, [clip.clean[judged]]), 1.0 / direct.seconds[0]
    rows = []
    for key, interval in (("guided", 1), ("keyed", KEYED)):
        tell(f"{subject.label}: guided, {clip.size}, a key frame in {interval}")
        with closing(subject.open(mode="guided", keyframe_interval=interval, **values)) as enhancer:
            enhance_frames(enhancer, [_corner(frame) for frame in clip.dark[:2]], mode="guided")
            guided = enhance_frames(enhancer, clip.dark, mode="guided")
        after, fast = fidelity([guided.frames[judged]], [clip.clean[judged]]), 1.0 / fmean(guided.seconds[1:])
        note = f"{clip.size}, frame {judged + 1} of a stream, time of {KEYED} frames; direct: that frame by itself"
        note += f"; {FULL_STEPS} sampling steps each" if subject.steps else ""
        rows += [Row(key, subject.label, after, before, note), Row(f"{key}_speed", subject.label, fast, slow, note)]
    return rows


def fidelity(frames: Sequence[Frame], clean: Sequence[Frame]) -> float:
    """PSNR of luma over all frames, dB; 100 where nothing differs."""
    meter = Fidelity()
    for one, other in zip(frames, clean, strict=True):
        meter.add(_luma(one), _luma(other))
    found = meter.psnr()
    return 100.0 if found is None else found


def _luma(frame: Frame) -> np.ndarray:
    offset, span = frame.color.luma_scale()
    return np.clip((frame.planes[0].astype(np.float32) - offset) / span, 0.0, 1.0)


def _corner(frame: Frame) -> Frame:
    side = 64
    luma, *chroma = frame.planes
    planes = luma[:side, :side], *(plane[: side // 2, : side // 2] for plane in chroma)
    return replace(frame, planes=tuple(np.ascontiguousarray(plane) for plane in planes))


def _held(enhancer: Enhancer, state: StreamState) -> int:
    return sum(array.nbytes for array in enhancer.snapshot(state).values())


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    if not sys.platform.startswith("linux"):
        return 0
    gc.collect()
    import os

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
