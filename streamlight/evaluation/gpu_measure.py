"""One way of enhancing on a device: time a frame, where it goes, and how far that is from what the device can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import Any, Final, cast

import numpy as np
import torch

from streamlight.engine import DevicePlanes, GraphCache, Link, Pipeline, Stage, across, graph_cache
from streamlight.engine.link import IN_FLIGHT
from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.build import build_enhancer
from streamlight.enhance.transfer import FrameGeometry
from streamlight.evaluation.gpu_ceilings import finish, measure_product
from streamlight.evaluation.gpu_model import ModelCall, recorded
from streamlight.evaluation.gpu_parts import Parts
from streamlight.evaluation.gpu_rows import ROWS, GpuOrder, GpuRow
from streamlight.evaluation.model_case import build_random, macs_of
from streamlight.evaluation.scenes import RATE, scene_frames
from streamlight.media import open_source
from streamlight.media.frame import Frame
from streamlight.models import load

KEPT: Final = 8
"""Different frames that a row is measured on, over and over."""

_WARM: Final = 48
"""Calls by which the graph of a settled stream is made, if one can be: its memory takes some frames to fill."""

_EAGER: Final = 4
_LIMIT: Final = 10.0
"""Seconds that all timed runs of a part may take; where frames are slow, there are fewer of them."""

_QUICK_SIZE: Final = 96


def build_row(row: GpuRow, device: torch.device, dtype: str, *, quick: bool = False) -> Enhancer:
    """The enhancer of a row.

    Raises:
        ModelError: The model does not work in this precision.
        DeviceError: The device is not there.
    """
    settings = EnhanceSettings(working_size=_QUICK_SIZE if quick else row.working_size)
    model = build_model(row, dtype=dtype, device=device, quick=quick)
    return build_enhancer(model, device=str(device), mode=row.mode, settings=settings)


def build_model(row: GpuRow, *, dtype: str, device: torch.device, quick: bool = False) -> Any:
    """The model of a row, the same weights at every call."""
    keywords = {**row.keywords, "dtype": dtype}
    if quick and row.architecture == "lldiffusion":
        keywords |= {"steps": 2, "warm_steps": 1}
    if not row.configuration:
        return load(row.architecture, device=device, **keywords)
    model: Any = build_random(row.architecture, row.configuration, **keywords)[0]
    return model.to(device)


def frames_of(order: GpuOrder, count: int) -> list[Frame]:
    """Frames in host memory: the first of the clip, or synthetic dark ones."""
    if not order.clip:
        return list(scene_frames("dark", frames=count, width=order.width, height=order.height))
    with open_source(order.clip) as source:
        return list(islice(source.frames(), count))


class Running:
    """An enhancer at work on endless streams, one a camera.

    A rehearsal on the host takes the same way, with a link that leads nowhere.

    Args:
        enhancer: What is measured.
        frames: On the host; they come again and again, at times that go on.
        cameras: Frames in one call, each of a stream of its own.

    Attributes:
        link: To the device.
    """

    def __init__(self, enhancer: Enhancer, frames: Sequence[Frame], *, cameras: int = 1) -> None:
        self.enhancer = enhancer
        self.link: Link = enhancer.link or Link(enhancer.device)
        self.cameras = cameras
        self._no_graphs = GraphCache(None)
        self._color = frames[0].color
        self._host = [frame.planes for frame in frames]
        self._there = [self.link.to_device(planes) for planes in self._host]
        self.begin_anew()

    def begin_anew(self) -> None:
        """New streams, at time 0."""
        self.states = [self.enhancer.new_state() for _ in range(self.cameras)]
        self._calls = 0

    def step(self) -> None:
        """Ask for one frame of each camera, from and to the device; does not wait for it."""
        self._ask(self._next(self._there))

    def seconds(self, steps: int) -> float:
        """Of the device, for so many steps."""
        begin = self.link.base_mark()
        for _ in range(steps):
            self.step()
        return self.link.base_mark().since(begin)

    def asking(self, steps: int) -> float:
        """Seconds in which the host asks for so many steps, of a device that had nothing to do."""
        self.link.base_mark()
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        taken = time.perf_counter() - begin
        self.link.base_mark()
        return taken

    def host_frames(self, steps: int) -> Iterator[Frame]:
        """Frames with planes in host memory, those of all cameras in turn."""
        for _ in range(steps):
            yield from self._next(self._host)

    def enhance(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Stage: those frames enhanced, so many in a call as there are cameras."""
        waiting = iter(frames)
        while chunk := list(islice(waiting, self.cameras)):
            self._ask(chunk)
            yield from chunk

    @property
    def graphs(self) -> GraphCache:
        """Where work that repeats is kept; nowhere on the host."""
        return self._no_graphs if self.enhancer.resident is None else self.enhancer.resident.graphs

    def use(self, graphs: GraphCache) -> None:
        """Keep it there from now on."""
        if self.enhancer.resident is not None:
            self.enhancer.resident.graphs = graphs

    def _ask(self, frames: list[Frame]) -> None:
        states = self.states[: len(frames)]
        if self.enhancer.link is not None:
            self.enhancer(frames, states)
            return
        with self.link.computing(*(cast(DevicePlanes, frame.planes) for frame in frames)):
            for frame in frames:
                frame.planes = tuple(np.asarray(plane) for plane in frame.planes)
            self.enhancer(frames, states)
            for frame in frames:
                bright = [torch.from_numpy(plane) for plane in frame.planes]
                frame.planes = self.link.computed(bright)  # type: ignore[assignment]

    def _next(self, planes: Sequence[Any]) -> list[Frame]:
        moment, self._calls = self._calls, self._calls + 1
        chosen = [planes[(moment + camera) % len(planes)] for camera in range(self.cameras)]
        return [Frame(one, self._color, pts=moment, time_base=1 / RATE, duration=1, index=moment) for one in chosen]


def measure_row(order: GpuOrder, parts: Parts) -> None:
    """All figures of a row."""
    row, device = ROWS[order.row], torch.device(order.device)
    figures, notes = parts.sample.figures, parts.sample.notes
    for dtype in dict.fromkeys(("bfloat16", order.dtype)):
        measure_product(order, parts, dtype)
    running: Running | None = None
    with parts.part("model and frames"):
        enhancer = build_row(row, device, order.dtype, quick=order.quick)
        frames = frames_of(order, 3 if order.quick else KEPT)
        if row.full_chroma and not order.clip:
            frames = [_full_chroma(frame) for frame in frames]
        notes |= {"picture": f"{frames[0].width}x{frames[0].height}", "model": enhancer.model.card.name}
        notes["seen"] = _seen(row, frames[0], enhancer.settings.working_size)
        running = Running(enhancer, frames, cameras=order.cameras if row.batched else 1)
    if running is None:
        return
    calls: list[ModelCall] = []
    with parts.part("without graphs"):
        calls = _without_graphs(order, running, figures)
    with parts.part("with graphs"):
        _with_graphs(order, running, figures, notes)
    _take_notes(running, notes)
    with parts.part("with copies"):
        _with_copies(order, running, figures)
    with parts.part("model alone"):
        if not calls:
            raise RuntimeError("what the model is asked could not be recorded, see 'without graphs'")
        _model_alone(order, running, calls, figures, notes)
    with parts.part("shares"):
        relate(figures)
    running.enhancer.close()


def _full_chroma(frame: Frame) -> Frame:
    """A 4:2:0 frame as 4:4:4, each chroma sample four times."""
    luma, *chroma = frame.planes
    height, width = luma.shape
    full = (np.repeat(np.repeat(plane, 2, axis=0), 2, axis=1)[:height, :width] for plane in chroma)
    return replace(frame, planes=(luma, *full), color=replace(frame.color, chroma="444"))


def _seen(row: GpuRow, frame: Frame, working_size: int) -> str:
    """Size of the picture that the model sees."""
    if row.mode == "direct":
        return f"{frame.width}x{frame.height}"
    geometry = FrameGeometry.of(frame.width, frame.height, frame.color, long_side=working_size)
    return f"{geometry.width}x{geometry.height}"


def _without_graphs(order: GpuOrder, running: Running, figures: dict[str, float]) -> list[ModelCall]:
    """Every operation asked for by itself; also what a frame multiplies, and what its model is asked."""
    device, cameras = torch.device(order.device), running.cameras
    running.use(GraphCache(None))
    reset_peak(device)
    for _ in range(2 if order.quick else _EAGER):
        running.step()
    with recorded(running.enhancer.model) as calls:
        running.step()
    figures["frame_gmac"] = 1e-9 * macs_of(running.step) / cameras
    steps = fitting(order, running.seconds(1))
    taken = [running.seconds(steps) / steps for _ in range(min(order.repeat, 3))]
    figures["eager_ms"] = 1e3 * median(taken) / cameras
    figures |= peak(device, "memory_eager")
    return calls


def _with_graphs(order: GpuOrder, running: Running, figures: dict[str, float], notes: dict[str, Any]) -> None:
    """As it runs: what has settled is only started."""
    device, cameras = torch.device(order.device), running.cameras
    running.use(graph_cache(device))
    graphs = running.graphs
    running.begin_anew()
    finish(device)
    reset_peak(device)
    notes["steps_before_graph"] = warm_up(running, quick=order.quick)
    steps = fitting(order, running.seconds(2) / 2)
    before = graphs.replayed
    taken = [running.seconds(steps) / steps for _ in range(order.repeat)]
    figures["ms"] = 1e3 * median(taken) / cameras
    figures["fps"] = cameras / median(taken)
    figures["spread"] = max(taken) / max(min(taken), 1e-12)
    notes["runs_ms"] = [1e3 * one / cameras for one in taken]
    notes["frames_from_graph"] = min(1.0, (graphs.replayed - before) / (steps * order.repeat))
    few = min(steps, 8)
    figures["host_ms"] = 1e3 * median([running.asking(few) / few for _ in range(order.repeat)]) / cameras
    figures |= peak(device, "memory_allocated", "memory_reserved")
    if "eager_ms" in figures:
        figures["graph_gain"] = figures["eager_ms"] / figures["ms"]


def warm_up(running: Running, *, quick: bool) -> int:
    """Ask for frames until graphs answer three in a row, or none is to be had; returns how many it took."""
    graphs, answered = running.graphs, 0
    most = 3 if quick or running.link.device.type != "cuda" else _WARM
    for step in range(1, most + 1):
        before = graphs.replayed
        running.step()
        answered = answered + 1 if graphs.replayed > before else 0
        if answered == 3:
            return step
    return most


def _take_notes(running: Running, notes: dict[str, Any]) -> None:
    graphs = running.graphs
    notes["graphs_captured"], notes["graphs_replayed"] = graphs.captured, graphs.replayed
    notes["graphs_refused"] = sorted(set(graphs.refused.values()))
    notes["fallbacks"] = running.enhancer.fallbacks


def _with_copies(order: GpuOrder, running: Running, figures: dict[str, float]) -> None:
    """From host memory and back to it, the copies on lanes of their own beside the work."""
    steps = fitting(order, figures.get("ms", figures.get("eager_ms", 100.0)) * running.cameras / 1e3)
    rates = [copied_rate(running, max(steps, 3 if order.quick else 12)) for _ in range(min(order.repeat, 3))]
    figures["copied_fps"] = median(rates)
    figures["copied_ms"] = 1e3 / median(rates)


def copied_rate(running: Running, steps: int, *, each: Callable[[Frame], None] = lambda _: None) -> float:
    """Frames a second through upload, enhancement and download, once that runs.

    Args:
        running: What is measured.
        steps: Calls of the enhancer.
        each: Is given every enhanced frame.
    """
    moments: list[float] = []

    def sink(frames: Iterator[Frame]) -> Iterator[int]:
        for frame in frames:
            moments.append(time.perf_counter())
            each(frame)
            yield frame.index

    stages = [*across(Stage("enhance", running.enhance), running.link), Stage("sink", sink)]
    Pipeline(running.host_frames(steps), stages).run()
    # Frames of one call come out together: every call counts by its first.
    return running.cameras * rate_of(moments[:: running.cameras])


def _model_alone(
    order: GpuOrder, running: Running, calls: list[ModelCall], figures: dict[str, float], notes: dict[str, Any]
) -> None:
    """What the model was asked for a frame, asked again."""
    model, link, cameras = running.enhancer.model, running.link, running.cameras
    graphs = graph_cache(torch.device(order.device))
    notes["model_calls"] = len(calls)

    def ask(graphs: GraphCache) -> None:
        for call in calls:
            call.run(model, graphs, link)

    figures["model_gmac"] = 1e-9 * macs_of(lambda: ask(GraphCache(None))) / cameras

    def seconds(times: int) -> float:
        begin = link.base_mark()
        for _ in range(times):
            ask(graphs)
        return link.base_mark().since(begin)

    seconds(1 if order.quick else _EAGER)
    times = fitting(order, seconds(1))
    figures["model_ms"] = 1e3 * median([seconds(times) / times for _ in range(order.repeat)]) / cameras
    notes["model_refused"] = sorted(set(graphs.refused.values()))


def relate(figures: dict[str, float]) -> None:
    """Speeds in multiply-accumulates, and shares of the ceiling, as far as what they need was measured."""
    ceiling = figures.get("product_bfloat16")
    for what, time_key in (("model", "model_ms"), ("frame", "ms")):
        macs, taken = figures.get(f"{what}_gmac"), figures.get(time_key)
        if macs is None or taken is None:
            continue
        figures[f"{what}_tmacs"] = macs / taken  # 1e9 a 1e-3 s
        if ceiling:
            figures[f"{what}_of_ceiling"] = figures[f"{what}_tmacs"] / ceiling


def fitting(order: GpuOrder, seconds: float) -> int:
    """Steps of a timed run, so that all runs together stay within their time."""
    return max(2, min(order.frames, int(_LIMIT / order.repeat / max(seconds, 1e-9))))


def rate_of(moments: Sequence[float]) -> float:
    """Items a second, without the beginning, in which queues fill and a stream settles, and without the last ones.

    Those that are under way when the input ends come out all at once.

    Raises:
        ValueError: There are too few.
    """
    if len(moments) < 3:
        raise ValueError(f"a rate needs 3 frames, got {len(moments)}")
    first, last = beginning(len(moments)), len(moments) - 1
    last = max(last - IN_FLIGHT, first + 1)
    return (last - first) / max(moments[last] - moments[first], 1e-9)


def beginning(count: int) -> int:
    """How many of so many items do not count."""
    return 30 if count >= 90 else count // 3


def reset_peak(device: torch.device) -> None:
    """Let the peak of the memory begin here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device, allocated: str, reserved: str = "") -> dict[str, float]:
    """Most bytes of tensors, and if wanted most bytes taken from the device, under these names; none for the host."""
    if device.type != "cuda":
        return {}
    found = {allocated: float(torch.cuda.max_memory_allocated(device))}
    return found | ({reserved: float(torch.cuda.max_memory_reserved(device))} if reserved else {})
