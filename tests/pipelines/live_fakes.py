"""Cameras and enhancers with the same face as the real ones, whose every move a test decides."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
from streamlight.pipelines.live_lane import Lane
from streamlight.pipelines.live_loop import LiveLoop
from streamlight.pipelines.live_rungs import Rung

from streamlight.enhance.gate import DarkGate
from streamlight.live.camera_status import CameraStats
from streamlight.live.ladder import Ladder
from streamlight.media import ColorSpec, Frame


def picture(number: int, *, code: int = 30, size: tuple[int, int] = (64, 48), age: float = 0.0) -> Frame:
    width, height = size
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    chroma[:, ::2] = 150
    luma = np.full((height, width), code, np.uint8)
    return Frame(
        (luma, chroma, chroma.copy()),
        ColorSpec(),
        pts=3000 * number,
        time_base=Fraction(1, 90000),
        index=number,
        arrival=time.monotonic() - age,
    )


class FakeCamera:
    """Gives what was put in; ends when told."""

    def __init__(self, name: str, ready: threading.Event) -> None:
        self.name, self.ready = name, ready
        self.options = SimpleNamespace(url=f"rtsp://user:pw@{name}/")
        self.waiting: deque[Frame] = deque()
        self.state = "live"
        self.ended = False
        self.came = self.went = 0
        self.dropped: Counter[str] = Counter()

    def put(self, *frames: Frame) -> None:
        self.waiting.extend(frames)
        self.came += len(frames)
        self.ready.set()

    def end(self) -> None:
        self.ended = True
        self.ready.set()

    def take(self, timeout: float | None = None) -> Frame | None:
        if not self.waiting:
            return None
        self.went += 1
        return self.waiting.popleft()

    @property
    def stats(self) -> CameraStats:
        return CameraStats(
            frames_in=self.came + self.dropped.total(), frames_out=self.went, waiting=len(self.waiting),
            dropped=Counter(self.dropped), state=self.state,
        )  # fmt: skip


class FakeEnhancer:
    """Adds 100 to luma; takes ``seconds`` a frame; fails on frames of ``bad`` width."""

    def __init__(self, seconds: float = 0.0, *, bad: int = 0) -> None:
        self.seconds, self.bad = seconds, bad
        self.fallbacks: list[str] = []
        self.calls: list[int] = []
        self.states: list[Any] = []

    def __call__(self, frames: list[Frame], states: list[Any]) -> list[Frame]:
        self.calls.append(len(frames))
        self.states += states
        for frame, state in zip(frames, states, strict=True):
            if frame.width == self.bad:
                raise ValueError("a picture that it cannot take")
            time.sleep(self.seconds)
            frame.planes = (frame.planes[0] + 100, *frame.planes[1:])
            state.age += 1
        return frames


@dataclass
class FakeDelivery:
    frames: list[Frame] = field(default_factory=list)

    def offer(self, frame: Frame) -> bool:
        self.frames.append(frame)
        return True

    def status(self) -> Any:
        return None

    def close(self, timeout: float) -> None:
        pass


class Rig:
    """A loop over fake cameras."""

    def __init__(
        self, rungs: list[Rung], *cameras: str, limit: float = 60.0, wait: float = 0.0, **keywords: Any
    ) -> None:
        self.ready = threading.Event()
        self.cameras = [FakeCamera(name, self.ready) for name in cameras]
        self.out = [FakeDelivery() for _ in cameras]
        self.lanes = [
            Lane(camera, DarkGate(), [out])  # type: ignore[arg-type]
            for camera, out in zip(self.cameras, self.out, strict=True)
        ]
        self.ladder = Ladder([rung.name for rung in rungs], max_latency=limit)
        self.loop = LiveLoop(
            self.lanes, rungs, self.ladder, ready=self.ready, batch_wait=wait, max_latency=limit,  # type: ignore[arg-type]
            **keywords,
        )  # fmt: skip
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop.run, args=(self.stop,))

    def start(self) -> Rig:
        self.thread.start()
        return self

    def finish(self) -> None:
        """Let the cameras end and the loop with them."""
        for camera in self.cameras:
            camera.end()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def run(self) -> Rig:
        """Work off what was put in, to the end."""
        self.start().finish()
        return self

    def wait_for(self, condition: Any, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.002)
