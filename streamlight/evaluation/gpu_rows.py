"""What ``streamlight bench gpu`` measures on a card, and what is meant to be reached there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from streamlight.enhance.build import Mode

DTYPES: Final = ("bfloat16", "float16", "float32")
"""Working precisions."""

SIZE: Final = (1920, 1080)
"""Frames that the goals are about."""

CAMERAS: Final = 16
"""Cameras in one call that the goals are about."""


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One way of enhancing frames.

    Attributes:
        architecture: Of the model.
        configuration: Published shape that is filled with random weights; empty for the weights in the package.
        mode: ``"direct"`` or ``"guided"``.
        working_size: Long side of the small copy in guided mode.
        batched: Whether frames of many cameras go into one call.
        full_chroma: Whether synthetic frames get chroma at full resolution: cells of the small copy are whole chroma
            samples, and 1920x1080 in 4:2:0 has one of 480x270 for a working size of 640, in 4:4:4 one of 640x360.
        keywords: Settings of the model.
        title: In words.
    """

    architecture: str
    configuration: str
    mode: Mode
    working_size: int
    batched: bool = False
    full_chroma: bool = False
    keywords: dict[str, Any] = field(default_factory=dict)
    title: str = ""


ROWS: Final[dict[str, GpuRow]] = {
    "llflow-small": GpuRow("llflow", "LOL_smallNet", "direct", 640, title="every pixel"),
    "llflow": GpuRow("llflow", "LOL-pc", "guided", 640, full_chroma=True, title="guided, 640"),
    "glare": GpuRow("glare", "LOL, LOL-v2-real (net_G)", "guided", 640, full_chroma=True, title="guided, 640"),
    "lldiffusion": GpuRow(
        "lldiffusion",
        "deg-unet-lol",
        "guided",
        640,
        full_chroma=True,
        keywords={"warm_steps": 4},
        title="guided, 640, 4 warm steps",
    ),
    "tonenet": GpuRow("tonenet", "", "guided", 480, title="one camera"),
    "tonenet-cameras": GpuRow("tonenet", "", "guided", 480, batched=True, title="many cameras in one call"),
}
"""By name, in the order of the table."""

PARITY: Final = ("llflow-small", "llflow", "glare", "lldiffusion", "tonenet")
"""Rows whose model is compared with the CPU, in float32."""

PIPELINE_ROW: Final = "tonenet"
"""The fastest model: behind it copies and encoder have the least time."""

CASES: Final = (*ROWS, "parity", "pipeline")
"""What can be asked for."""

TENSOR_BOUND: Final = ("llflow", "glare", "lldiffusion")

CaseName = Literal["ceilings", "row", "parity", "pipeline"]


@dataclass(frozen=True, slots=True)
class GpuOrder:
    """What a process is to measure.

    Attributes:
        case: Kind of figures.
        row: Key of :data:`ROWS`; empty for the ceilings.
        device: As torch calls it.
        dtype: Working precision.
        width: Of synthetic frames.
        height: Likewise.
        frames: Calls in a timed run; frames of the pipeline's clip at most.
        repeat: Timed runs.
        cameras: Frames in a call, where a row is batched.
        clip: Video file; empty for synthetic frames.
        quick: Whether a rehearsal is enough: small products, copies and working size, few steps.
    """

    case: CaseName
    row: str = ""
    device: str = "cuda:0"
    dtype: str = "bfloat16"
    width: int = SIZE[0]
    height: int = SIZE[1]
    frames: int = 60
    repeat: int = 5
    cameras: int = CAMERAS
    clip: str = ""
    quick: bool = False


@dataclass(slots=True)
class GpuSample:
    """What was measured, as far as it came.

    Attributes:
        figures: Numbers by name, see :data:`FIGURES`.
        notes: What is no number: names, reasons, counts by name.
        failed: Reason by part, of the parts that could not be measured.
        spans: ``[lane, number, begin, end]`` in seconds, of some twenty frames of a pipeline.
    """

    figures: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    spans: list[tuple[str, int, float, float]] = field(default_factory=list)


FIGURES: Final[dict[str, str]] = {
    "copy_device": "copy on the device, bytes read and written, GB/s",
    "copy_up": "copy from page-locked memory to the device, GB/s",
    "copy_down": "copy from the device to page-locked memory, GB/s",
    "product_bfloat16": "matrix product in bfloat16, TMAC/s",
    "product_float16": "matrix product in float16, TMAC/s",
    "product_float32": "matrix product in float32, TMAC/s",
    "fps": "frames a second, of all cameras; of a pipeline end to end",
    "ms": "milliseconds a frame, median of the runs; frames on the device before and after",
    "spread": "slowest over fastest run",
    "host_ms": "milliseconds a frame in which the host asks for the work",
    "eager_ms": "milliseconds a frame without graphs",
    "graph_gain": "eager_ms over ms",
    "copied_ms": "milliseconds a frame from host memory and back to it",
    "copied_fps": "frames a second from host memory and back to it",
    "model_ms": "milliseconds a frame of the model alone",
    "model_gmac": "GMAC a frame of the model alone",
    "frame_gmac": "GMAC a frame",
    "model_tmacs": "TMAC/s of the model alone",
    "frame_tmacs": "TMAC/s of the frame",
    "model_of_ceiling": "model_tmacs over product_bfloat16 in the same process",
    "frame_of_ceiling": "frame_tmacs over product_bfloat16 in the same process",
    "memory_allocated": "peak bytes of tensors on the device with graphs, model included",
    "memory_reserved": "peak bytes taken from the device with graphs",
    "memory_eager": "peak bytes of tensors on the device without graphs",
    "graphs_captured": "graphs made",
    "graphs_replayed": "calls that a graph answered",
    "parity": "largest difference to the CPU over the range of its result, in float32",
    "parity_share": "share of values that differ by more than 0.001 of the range, in float32",
    "decode_fps": "frames a second, decoding alone",
    "enhance_fps": "frames a second, enhancing alone, from host memory and back to it",
    "encode_fps": "frames a second, encoding alone",
    "of_slowest": "fps over that of the slowest stage alone",
}
"""What each number is."""


@dataclass(frozen=True, slots=True)
class GpuGoal:
    """One figure of one row and its limit; give ``least`` or ``most``."""

    row: str
    key: str
    least: float | None = None
    most: float | None = None


GOALS: Final = (
    GpuGoal("llflow-small", "fps", least=60.0),
    GpuGoal("llflow", "fps", least=60.0),
    GpuGoal("glare", "fps", least=30.0),
    GpuGoal("lldiffusion", "fps", least=30.0),
    GpuGoal("tonenet", "fps", least=1000.0),
    GpuGoal("tonenet-cameras", "fps", least=1000.0),
    *(GpuGoal(row, "model_of_ceiling", least=0.4) for row in TENSOR_BOUND),
    GpuGoal("pipeline", "of_slowest", least=0.9),
    *(GpuGoal(row, "parity", most=1e-3) for row in PARITY),
)
"""For a data-centre card of the H200 class, 1920x1080, bfloat16."""

Verdict = Literal["met", "missed", "unmeasured"]


@dataclass(frozen=True, slots=True)
class GpuOutcome:
    """A goal and what was reached.

    Attributes:
        goal: The goal.
        value: What was measured; None where nothing was.
    """

    goal: GpuGoal
    value: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether it was reached."""
        if self.value is None:
            return "unmeasured"
        least, most = self.goal.least, self.goal.most
        met = (least is None or self.value >= least) and (most is None or self.value <= most)
        return "met" if met else "missed"

    @property
    def limit(self) -> str:
        """The goal in a few signs."""
        return f">= {self.goal.least:g}" if self.goal.least is not None else f"<= {self.goal.most:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {**asdict(self.goal), "value": self.value, "verdict": self.verdict}


def outcomes(lookup: Callable[[str, str], float | None], *, goals: Sequence[GpuGoal] = GOALS) -> list[GpuOutcome]:
    """All goals in order, whether or not something was measured.

    Args:
        lookup: From row and key of the figure to its value, None where it was not measured.
        goals: Which.
    """
    return [GpuOutcome(goal, lookup(goal.row, goal.key)) for goal in goals]
