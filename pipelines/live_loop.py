"""The enhancing thread of a live run: newest frames in, finished ones out, never later than agreed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from streamlight.pipelines.live_detect import DetectWorker
from streamlight.pipelines.live_lane import CLOSING, FAILED, LATE, Lane
from streamlight.pipelines.live_rungs import Rung, Rungs

from streamlight.detect import draw_boxes
from streamlight.enhance import Enhancer
from streamlight.enhance.highlights import protect_highlights
from streamlight.errors import DeviceError
from streamlight.live.ladder import Ladder
from streamlight.live.logs import log_event
from streamlight.media import Frame

_TURN = 0.25
"""Longest wait for a frame: so often the ladder, the stop and the heartbeat are looked after."""

_NO_TIME = 0.9
"""Share of the latency that the work alone may take for frames to be dropped before it."""

OnFrame = Callable[[str, Frame], object]
Planes = tuple[np.ndarray, ...]


class LiveLoop:
    """Takes the newest frame of every camera, enhances what came, hands it over.

    Cameras never wait for one another: a frame is handed over when it is done, and the wait for company, which only
    models that batch have a use for, is bounded.

    Args:
        lanes: The cameras.
        rungs: What can be given up.
        ladder: Decides how much of it is.
        ready: Shared with the cameras: set when there may be something to take.
        batch_wait: Seconds to wait for frames of other cameras.
        max_latency: Seconds from packet to hand-over.
        detect: Where frames are looked at; None for nowhere.
        draw: Whether what was found is drawn.
        highlights: How far lights stay as the camera saw them.
        on_frame: Called with the camera's name and every frame that is handed over; must be quick.

    Attributes:
        beat: ``time.monotonic()`` of the last turn.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        rungs: Rungs,
        ladder: Ladder,
        *,
        ready: threading.Event,
        batch_wait: float,
        max_latency: float,
        detect: DetectWorker | None = None,
        draw: bool = False,
        highlights: float = 0.0,
        on_frame: OnFrame | None = None,
    ) -> None:
        self._lanes = tuple(lanes)
        self._rungs = rungs
        self._ladder = ladder
        self._ready = ready
        self._batch_wait = batch_wait
        self._max_latency = max_latency
        self._detect = detect
        self._draw = draw
        self._highlights = highlights
        self._on_frame = on_frame
        self._broken: set[str] = set()
        self._told: set[str] = set()
        self.beat = time.monotonic()

    def run(self, stop: threading.Event, *, until: float | None = None) -> None:
        """Work until ``stop`` is set, ``time.monotonic()`` is ``until``, or every camera has ended."""
        while not stop.is_set():
            self.beat = time.monotonic()
            if until is not None and self.beat >= until:
                return
            self._ready.clear()  # before looking: what comes from now on sets it again
            batch = self._take()
            if batch:
                self._wait_for_company(batch)
                self._work(batch, stop)
            elif all(lane.camera.ended for lane in self._lanes):
                return
            else:
                self._ready.wait(_TURN)
            self._ladder.lost(sum(lane.newly_lost() for lane in self._lanes if not lane.patient))
            self._ladder.judge(time.monotonic())

    def _take(self) -> dict[Lane, Frame]:
        """What is there now, the newest of each camera."""
        found = {}
        for lane in self._lanes:
            frame = lane.camera.take(0.0)
            if frame is not None:
                found[lane] = frame
        return found

    def _wait_for_company(self, batch: dict[Lane, Frame]) -> None:
        """Give the other live cameras a moment, where a model can make something of it."""
        if self._batch_wait <= 0.0 or not self._rungs[self._ladder.rung].batches:
            return
        deadline = time.monotonic() + self._batch_wait
        while any(lane not in batch and lane.camera.state == "live" for lane in self._lanes):
            if not self._ready.wait(max(0.0, deadline - time.monotonic())):
                return
            self._ready.clear()
            for lane in self._lanes:
                if lane not in batch and (frame := lane.camera.take(0.0)) is not None:
                    batch[lane] = frame

    def _work(self, batch: dict[Lane, Frame], stop: threading.Event) -> None:
        """Enhance and hand over, the oldest frame first."""
        rung = self._rungs[self._ladder.rung]
        waiting = sorted(batch.items(), key=lambda item: item[1].arrival)
        groups: dict[object, list[tuple[Lane, Frame]]] = {}
        for lane, frame in waiting:
            key = (frame.width, frame.height, frame.color) if rung.batches else lane
            groups.setdefault(key, []).append((lane, frame))
        for group in groups.values():
            in_time = []
            for lane, frame in group:
                if stop.is_set():
                    lane.drop(CLOSING)
                elif self._hopeless(lane, frame):
                    lane.drop(LATE)
                    self._ladder.lost()
                else:
                    in_time.append((lane, frame))
            if in_time:
                self._enhance_group(in_time, rung)

    def _hopeless(self, lane: Lane, frame: Frame) -> bool:
        """Whether a frame would be too late even though the work by itself is quick enough."""
        if lane.patient:
            return False
        work, age = self._ladder.expected_work, time.monotonic() - frame.arrival
        return age > self._max_latency or (work < _NO_TIME * self._max_latency < _NO_TIME * (age + work))

    def _enhance_group(self, group: list[tuple[Lane, Frame]], rung: Rung) -> None:
        begin = time.monotonic()
        before = {id(frame): frame.planes for _, frame in group}
        try:
            decisions = self._enhance(group, rung)
        except Exception as error:  # a picture that a model cannot take must not end the watch over the others
            self._failed(group, rung, error)
            if isinstance(error, DeviceError):  # less of everything may fit
                self._ladder.worked(time.monotonic() - begin, latency=None)
            return
        self._broken.difference_update(lane.name for lane, _ in group)
        spent = (time.monotonic() - begin) / len(group)
        for (lane, frame), decision in zip(group, decisions, strict=True):
            self._finish(lane, frame, before[id(frame)], decision, spent)

    def _enhance(self, group: list[tuple[Lane, Frame]], rung: Rung) -> list[str]:
        """Do what each frame's light calls for; returns what was done."""
        decisions: list[str] = [lane.gate.look(frame) for lane, frame in group]
        if rung.enhancer is None:
            return ["untouched" if decision == "untouched" else "bypassed" for decision in decisions]
        work = [pair for pair, decision in zip(group, decisions, strict=True) if decision != "untouched"]
        for lane, _ in work:
            if lane.family not in ("", rung.family):
                lane.state.reset()  # what one model remembers means nothing to another
            lane.family = rung.family
        before = [frame.planes for _, frame in work]
        if work:
            rung.enhancer([frame for _, frame in work], [lane.state for lane, _ in work])
            self._tell_fallbacks(rung.enhancer)
        for (lane, frame), dark in zip(work, before, strict=True):
            protect_highlights(frame, dark, amount=self._highlights)
            frame.planes = lane.gate.finish(dark, frame.planes)
        return decisions

    def _tell_fallbacks(self, enhancer: Enhancer) -> None:
        """Say once what works otherwise than it should, or had to be given up for memory."""
        for sentence in enhancer.fallbacks:
            if sentence not in self._told:
                self._told.add(sentence)
                log_event("enhance-fallback", sentence, level=logging.WARNING)

    def _failed(self, group: list[tuple[Lane, Frame]], rung: Rung, error: Exception) -> None:
        """Count frames that could not be enhanced, and say so once."""
        for lane, _ in group:
            lane.drop(FAILED)
            lane.state.reset()
            if lane.name not in self._broken:
                self._broken.add(lane.name)
                log_event("enhance-failed", f"enhancing failed: {error}", camera=lane.name, level=logging.ERROR,
                          rung=rung.name, error=type(error).__name__)  # fmt: skip

    def _finish(self, lane: Lane, frame: Frame, before: Planes, decision: str, spent: float) -> None:
        """Hand a frame over if it is still in time."""
        if not lane.patient and time.monotonic() - frame.arrival > self._max_latency:
            lane.drop(LATE)
            self._ladder.worked(spent, latency=None)
            return
        if self._detect is not None:
            self._detect.offer(lane, frame, before)
        if self._draw and (boxes := lane.boxes()):
            draw_boxes(frame, boxes)
        latency = lane.hand_over(frame, decision)
        if not lane.patient:
            self._ladder.worked(spent, latency=latency)
        if self._on_frame is not None:
            with suppress(Exception):
                self._on_frame(lane.name, frame)
