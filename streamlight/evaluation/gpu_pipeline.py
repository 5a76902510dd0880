"""A whole job on a device: its stages alone, all of them together, and who worked when."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch

from streamlight.config import load_config
from streamlight.engine import Pipeline, Span, Stage, Timeline, across, busy_seconds, hidden_share
from streamlight.evaluation.gpu_measure import Running, beginning, build_row, copied_rate, rate_of, warm_up
from streamlight.evaluation.gpu_parts import Parts
from streamlight.evaluation.gpu_rows import ROWS, GpuOrder
from streamlight.media import EncoderPlan, SegmentWriter, Source, open_source, plan_encoder
from streamlight.media.frame import Frame
from streamlight.pipelines.segment_run import encode_settings

LANES: Final = ("decode", "take in", "upload", "compute", "download", "encode")
"""Who may work at the same time, in the order of a frame's way."""

COPIES: Final = ("take in", "upload", "download")

PRESET: Final = "realtime"
"""Where the encoder's settings come from."""

_IN_MEMORY: Final = 60
_WINDOW: Final = 20
_SPANS: Final = 600


def measure_pipeline(order: GpuOrder, parts: Parts) -> None:
    """Decoding, enhancing and encoding alone, then a job of all of them, on ``order.clip``."""
    figures, notes = parts.sample.figures, parts.sample.notes
    with parts.part("decode"):
        with _open(order) as source:
            figures["decode_fps"] = rate_of([_now() for _ in islice(source.frames(), order.frames)])
        notes["decoder"] = _decoder(source)
    job: _Job | None = None
    with parts.part("model and frames"):
        job = _Job(order)
        notes |= {"picture": job.picture, "model": order.row}
    if job is None:
        return
    with parts.part("enhance"):
        figures["enhance_fps"] = job.enhance()
    with parts.part("encode"):
        figures["encode_fps"] = job.encode()
        notes["encoder"] = " ".join([job.plan.encoder, *(f"{key}={value}" for key, value in job.plan.options)])
    with parts.part("end to end"):
        spans = job.run(figures, notes)
        parts.sample.spans = window_of(spans)
    with parts.part("against the slowest stage"):
        relate_stages(figures)
    job.running.enhancer.close()


def relate_stages(figures: dict[str, float]) -> None:
    """Add ``of_slowest``.

    Raises:
        ValueError: One of the four rates is missing.
    """
    keys = ("decode_fps", "enhance_fps", "encode_fps", "fps")
    missing = [key for key in keys if key not in figures]
    if missing:
        raise ValueError(f"not measured: {', '.join(missing)}")
    figures["of_slowest"] = figures["fps"] / min(figures[key] for key in keys[:3])


class _Job:
    """The stages of a job on one clip, with what they need prepared."""

    def __init__(self, order: GpuOrder) -> None:
        device = torch.device(order.device)
        self._order = order
        with open_source(order.clip) as source:
            frames = list(islice(source.frames(), min(_IN_MEMORY, order.frames)))
            if len(frames) < 3:
                raise ValueError(f"a pipeline needs a clip of 3 frames, got {len(frames)}")
            settings = encode_settings(load_config(preset=PRESET))
            rate = source.info.average_rate
        self.plan: EncoderPlan = plan_encoder(settings, frames[0], container="x.mp4", rate=rate)
        self._tick = frames[1].pts - frames[0].pts
        self.picture = f"{frames[0].width}x{frames[0].height}"
        enhancer = build_row(ROWS[order.row], device, order.dtype, quick=order.quick)
        self.running = Running(enhancer, frames)
        self._bright: list[Frame] = []

    def enhance(self) -> float:
        """Frames a second of the enhancer; some of its results are kept for :meth:`encode`."""
        warm_up(self.running, quick=self._order.quick)

        def keep(frame: Frame) -> None:
            if len(self._bright) < _IN_MEMORY:
                self._bright.append(frame)

        return copied_rate(self.running, self._order.frames, each=keep)

    def encode(self) -> float:
        """Frames a second of the encoder, on enhanced frames."""
        if not self._bright:
            raise ValueError("there are no enhanced frames to encode, see 'enhance'")
        moments: list[float] = []
        with tempfile.TemporaryDirectory() as folder, SegmentWriter(Path(folder, "segment"), self.plan) as writer:
            for index in range(self._order.frames):
                frame = self._bright[index % len(self._bright)]
                moment, base = index * self._tick, self.plan.time_base
                writer.write(Frame(frame.planes, frame.color, pts=moment, time_base=base, duration=self._tick))
                moments.append(_now())
            writer.close()
        return rate_of(moments)

    def run(self, figures: dict[str, float], notes: dict[str, Any]) -> list[Span]:
        """The whole job; returns who worked when, once it ran evenly."""
        running, moments = self.running, list[float]()
        running.begin_anew()
        timeline = running.link.timeline = Timeline(running.link.base_mark)
        try:
            with tempfile.TemporaryDirectory() as folder, _open(self._order) as source:
                frames = timeline.each("decode", islice(source.frames(), self._order.frames))
                write = self._writing(Path(folder, "segment"), timeline, moments)
                stages = [*across(Stage("enhance", running.enhance), running.link), Stage("encode", write)]
                stats = Pipeline(frames, stages, source_name="decode").run()
            spans = settled(timeline.spans())
        finally:
            running.link.timeline = None
        figures["fps"] = rate_of(moments)
        notes["stages_busy"] = {stage.name: stage.busy / stats.wall for stage in stats.stages}
        notes["decoder_end_to_end"] = _decoder(source)
        notes["link"] = asdict(running.link.stats)
        notes["fallbacks"] = running.enhancer.fallbacks
        notes["busy"], notes["hidden"] = shares(spans)
        return spans

    def _writing(
        self, path: Path, timeline: Timeline, moments: list[float]
    ) -> Callable[[Iterator[Frame]], Iterator[int]]:
        def write(frames: Iterator[Frame]) -> Iterator[int]:
            with SegmentWriter(path, self.plan) as writer:
                for frame in frames:
                    with timeline.on_host("encode"):
                        writer.write(frame)
                    moments.append(_now())
                    yield frame.index
                writer.close()

        return write


def settled(spans: Iterable[Span]) -> list[Span]:
    """Spans of the time from which on a job runs evenly to the last frame that was encoded."""
    found = list(spans)
    written = sorted((one for one in found if one.lane == "encode"), key=lambda one: one.begin)
    if not written:
        return found
    begin, end = written[beginning(len(written))].begin, written[-1].end
    return [one for one in found if one.begin >= begin and one.end <= end]


def shares(spans: Sequence[Span]) -> tuple[dict[str, float], dict[str, float]]:
    """Share of the time in which each lane worked, and of each kind of copy in which the compute lane did, too."""
    if not spans:
        return {}, {}
    whole = max(one.end for one in spans) - min(one.begin for one in spans)
    lanes = [lane for lane in LANES if any(one.lane == lane for one in spans)]
    busy = {lane: busy_seconds(spans, lane) / max(whole, 1e-9) for lane in lanes}
    return busy, {lane: hidden_share(spans, lane, "compute") for lane in lanes if lane in COPIES}


def window_of(spans: Sequence[Span]) -> list[tuple[str, int, float, float]]:
    """Lane, number, begin and end of what was done while some twenty frames in the middle were computed."""
    computed = sorted((one for one in spans if one.lane == "compute"), key=lambda one: one.begin)
    if not computed:
        return []
    middle = len(computed) // 2
    chosen = computed[max(0, middle - _WINDOW // 2) : middle + _WINDOW // 2]
    begin, end = chosen[0].begin, max(one.end for one in chosen)
    seen = [one for one in spans if one.end > begin and one.begin < end][:_SPANS]
    return [(one.lane, one.index, one.begin - begin, one.end - begin) for one in seen]


def _open(order: GpuOrder) -> Source:
    """The clip, decoded on the card where that can be, with frames that stay there."""
    device = torch.device(order.device)
    if device.type != "cuda":
        return open_source(order.clip)
    return open_source(order.clip, hardware="auto", device=device.index or 0, surfaces=True)


def _decoder(source: Source) -> dict[str, Any]:
    stats = source.stats
    return {"on_card": stats.hardware_frames, "in_software": stats.frames - stats.hardware_frames,
            "fallbacks": list(stats.fallbacks)}  # fmt: skip


def _now() -> float:
    return time.perf_counter()
