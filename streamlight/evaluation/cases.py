"""The cases of the benchmark, each run in a process of its own so that its peak memory is its own.

``python -m streamlight.evaluation.cases '{"case": "decode", "clip": "x.mp4", "preset": "default"}'`` prints one line
of JSON, a :class:`Sample`. ``"values"`` may hold options that win over the preset.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamlight.errors import StreamlightError

if TYPE_CHECKING:
    from streamlight.config import Config

CaseName = Literal["decode", "encode", "enhance", "end-to-end"]
IN_MEMORY = 90
"""Frames held in memory for the cases that measure one stage alone (280 MB at 1080p)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run.

    Attributes:
        frames: Frames that went through.
        wall: Elapsed seconds.
        cpu: CPU seconds of the process, all threads, in that time.
        peak_memory: Largest resident size of the process, bytes.
        steps: Seconds per step: of the enhancer, or busy seconds of the pipeline's stages.
        about: Encoder, decoder, sizes: what was really used.
    """

    frames: int
    wall: float
    cpu: float
    peak_memory: int
    steps: dict[str, float] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


class _Watch:
    """Wall and CPU time of a block."""

    def __enter__(self) -> _Watch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu

    def sample(self, frames: int, **more: Any) -> Sample:
        from streamlight.engine.report import peak_memory

        return Sample(frames, self.wall, self.cpu, peak_memory(), **more)


def decode(clip: str, config: Config) -> Sample:
    """Read every frame and throw it away."""
    from streamlight.media import open_source

    with open_source(clip) as source, _Watch() as watch:
        count = sum(1 for _ in source.frames())
    info = source.info
    return watch.sample(count, about={"codec": info.codec, "size": f"{info.width}x{info.height}"})


def encode(clip: str, config: Config) -> Sample:
    """Encode decoded frames from memory with the configured encoder settings."""
    from streamlight.media import open_source
    from streamlight.media.encode import plan_encoder
    from streamlight.media.segments import SegmentWriter
    from streamlight.pipelines.video_job import encode_settings

    with open_source(clip) as source, tempfile.TemporaryDirectory() as folder:
        frames = list(islice(source.frames(), IN_MEMORY))
        settings = encode_settings(config)
        plan = plan_encoder(settings, frames[0], container="x.mp4", rate=source.info.average_rate)
        with _Watch() as watch, SegmentWriter(Path(folder, "segment"), plan) as writer:
            for frame in frames:
                writer.write(frame)
            writer.close()
    return watch.sample(len(frames), about={"encoder": plan.encoder, **dict(plan.options)})


def enhance(clip: str, config: Config) -> Sample:
    """Enhance decoded frames from memory; the first frames are run once before, to compile the kernels."""
    from streamlight.media import open_source

    with open_source(clip) as source:
        frames = list(islice(source.frames(), IN_MEMORY))
    enhancer = _enhancer(config)
    try:
        planes = [frame.planes for frame in frames[:4]]
        _pass(enhancer, frames[:4])
        for frame, before in zip(frames, planes, strict=False):
            frame.planes = before
        enhancer.timings.clear()
        with _Watch() as watch:
            _pass(enhancer, frames)
        return watch.sample(len(frames), steps=dict(enhancer.timings))
    finally:
        enhancer.close()


def end_to_end(clip: str, config: Config) -> Sample:
    """The whole job, as :func:`streamlight.enhance_video` does it; kernels are compiled before."""
    from streamlight import enhance_video

    _compile(config)
    with tempfile.TemporaryDirectory() as folder, _Watch() as watch:
        report = enhance_video(clip, Path(folder, "out.mp4"), config=config)
    steps = {stage["name"]: float(stage["busy"]) for stage in report.stages}
    return watch.sample(report.frames["out"], steps=steps, about=dict(report.codecs))


def _compile(config: Config) -> None:
    """Compile the kernels on a picture of a few pixels, which leaves no mark on the peak memory."""
    from fractions import Fraction

    import numpy as np

    from streamlight.media.frame import ColorSpec, Frame

    planes = tuple(np.full(shape, 20, np.uint8) for shape in ((48, 64), (24, 32), (24, 32)))
    enhancer = _enhancer(config)
    _pass(enhancer, [Frame(planes, ColorSpec(), pts=i, time_base=Fraction(1, 25)) for i in range(2)])
    enhancer.close()


def _enhancer(config: Config) -> Any:
    from streamlight.pipelines.building import enhancer_for

    return enhancer_for(config)


def _pass(enhancer: Any, frames: list[Any]) -> None:
    state = enhancer.new_state()
    for frame in frames:
        enhancer([frame], [state])


CASES: dict[CaseName, Callable[[str, Config], Sample]] = {
    "decode": decode,
    "encode": encode,
    "enhance": enhance,
    "end-to-end": end_to_end,
}


def main(text: str) -> int:
    """Run one case and print its sample; a known error is printed alone, on stderr."""
    from streamlight.config import load_config

    order = json.loads(text)
    try:
        config = load_config(preset=order["preset"], values=order.get("values"))
        sample = CASES[order["case"]](order["clip"], config)
    except StreamlightError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(sample)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
