"""The tables of ``streamlight bench gpu`` for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from streamlight.evaluation.gpu_rows import ROWS

if TYPE_CHECKING:
    from streamlight.evaluation.gpu_bench import GpuBench, GpuResult

Column = tuple[str, str, Callable[[float], str]]
"""Head, key of the figure, how it is printed."""


def _number(digits: int, scale: float = 1.0) -> Callable[[float], str]:
    return lambda value: f"{value * scale:.{digits}f}"


def _few(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


_CEILINGS: Final[tuple[Column, ...]] = (
    ("copy GB/s", "copy_device", _few),
    ("up GB/s", "copy_up", _few),
    ("down GB/s", "copy_down", _few),
    ("bfloat16 TMAC/s", "product_bfloat16", _few),
    ("float16 TMAC/s", "product_float16", _few),
    ("float32 TMAC/s", "product_float32", _few),
)
_SPEED: Final[tuple[Column, ...]] = (
    ("fps", "fps", _number(1)),
    ("ms", "ms", _number(3)),
    ("spread", "spread", _number(2)),
    ("eager ms", "eager_ms", _number(3)),
    ("gain", "graph_gain", _number(2)),
    ("host ms", "host_ms", _number(3)),
    ("with copies fps", "copied_fps", _number(1)),
)
_WORK: Final[tuple[Column, ...]] = (
    ("GMAC", "frame_gmac", _few),
    ("TMAC/s", "frame_tmacs", _few),
    ("of ceiling", "frame_of_ceiling", _number(2)),
    ("model GMAC", "model_gmac", _few),
    ("model ms", "model_ms", _number(3)),
    ("TMAC/s", "model_tmacs", _few),
    ("of ceiling", "model_of_ceiling", _number(2)),
    ("MB", "memory_allocated", _number(0, 1e-6)),
    ("MB taken", "memory_reserved", _number(0, 1e-6)),
)
_PIPELINE: Final[tuple[Column, ...]] = (
    ("decode fps", "decode_fps", _number(1)),
    ("enhance fps", "enhance_fps", _number(1)),
    ("encode fps", "encode_fps", _number(1)),
    ("end to end fps", "fps", _number(1)),
    ("of slowest", "of_slowest", _number(2)),
)
_PARITY: Final[tuple[Column, ...]] = (
    ("float32", "parity", lambda value: f"{value:.1e}"),
    ("share > 0.001", "parity_share", lambda value: f"{value:.1e}"),
)


def bench_lines(bench: GpuBench) -> list[str]:
    """Machine, device, ceilings, rows, pipelines, comparison with the CPU, goals; what failed last."""
    by_case: dict[str, list[GpuResult]] = {}
    for result in bench.results:
        by_case.setdefault(result.case, []).append(result)
    rows = by_case.get("row", [])
    parts = [
        [f"$ {bench.command}", *bench.machine.lines(), *_device(bench, by_case.get("ceilings", []))],
        _table("ceilings", _CEILINGS, by_case.get("ceilings", []), lambda result: ""),
        _table(f"a frame, {_picture(rows)}, {bench.order.dtype}", _SPEED, rows, _row_name),
        _table("its arithmetic", _WORK, rows, _row_name),
        _table("pipeline", _PIPELINE, by_case.get("pipeline", []), _row_name),
        *(_lanes(result) for result in by_case.get("pipeline", [])),
        _table("largest difference to the CPU, of the range", _PARITY, by_case.get("parity", []), _row_name),
        _goals(bench),
        _oddities(bench),
    ]
    return [line for part in parts if part for line in (*part, "")][:-1]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _device(bench: GpuBench, ceilings: Sequence[GpuResult]) -> list[str]:
    notes = ceilings[0].sample.notes if ceilings else {}
    if not bench.device.startswith("cuda"):
        return [f"{bench.device}: not a card; these figures say nothing about one, and no goal is judged"]
    if "device" not in notes:
        return [bench.device]
    memory = f"{notes['memory_bytes'] / 2**30:.0f} GiB"
    return [f"{bench.device}: {notes['device']}, {memory}, compute {notes['compute_capability']}, CUDA {notes['cuda']}"]


def _picture(rows: Iterable[GpuResult]) -> str:
    sizes = dict.fromkeys(result.sample.notes.get("picture") for result in rows)
    return ", ".join(size for size in sizes if size) or "no picture"


def _row_name(result: GpuResult) -> str:
    title = ROWS[result.row].title if result.case == "row" else ""
    if seen := result.sample.notes.get("seen"):
        title = f"{title}, model sees {seen}"
    clip = "" if result.clip == "synthetic" else result.clip
    return ", ".join(word for word in (result.row, title, clip) if word)


def _table(
    title: str, columns: Sequence[Column], results: Sequence[GpuResult], name: Callable[[GpuResult], str]
) -> list[str]:
    """One line a result; columns of which nothing is known are left out."""
    shown = [column for column in columns if any(column[1] in result.sample.figures for result in results)]
    if not results or not shown:
        return []
    cells = [("", *(head for head, _, _ in shown))]
    for result in results:
        figures = result.sample.figures
        cells.append((name(result), *(text(figures[key]) if key in figures else "?" for _, key, text in shown)))
    return [title, *aligned(cells)]


def _lanes(result: GpuResult) -> list[str]:
    notes = result.sample.notes
    if not notes.get("busy"):
        return []
    busy = ", ".join(f"{lane} {share:.0%}" for lane, share in notes["busy"].items())
    hidden = ", ".join(f"{lane} {share:.0%}" for lane, share in notes.get("hidden", {}).items())
    decoder = notes.get("decoder_end_to_end", {})
    return [
        f"busy: {busy}",
        *([f"copies hidden behind compute: {hidden}"] if hidden else []),
        f"decoded on the card {decoder.get('on_card', 0)}, in software {decoder.get('in_software', 0)}; "
        f"encoder {notes.get('encoder', '?')}",
    ]


def _goals(bench: GpuBench) -> list[str]:
    cells = [("goals, H200 class, 1920x1080", "limit", "measured", "")]
    for outcome in bench.outcomes():
        goal = outcome.goal
        value = "" if outcome.value is None else f"{outcome.value:.3g}"
        cells.append((f"{goal.row}, {goal.key.replace('_', ' ')}", outcome.limit, value, outcome.verdict))
    return aligned(cells)


def _oddities(bench: GpuBench) -> list[str]:
    """What was refused, fell back or failed, and what was not begun."""
    found = [f"{case}: not begun: {why}" for case, why in bench.missing.items()]
    for result in bench.results:
        notes = result.sample.notes
        if "graphs_captured" in notes:
            share = notes.get("frames_from_graph")
            told = "" if share is None else f", {share:.0%} of timed frames from one"
            found.append(f"{result.name}: graphs made: {notes['graphs_captured']}{told}")
        found += [f"{result.name}: no graph: {why}" for why in notes.get("graphs_refused", ())]
        found += [f"{result.name}: model alone without a graph: {why}" for why in notes.get("model_refused", ())]
        found += [f"{result.name}: {why}" for why in notes.get("fallbacks", ()) if not why.startswith("no CUDA graph")]
        decoder = notes.get("decoder", {})
        found += [f"{result.name}: decoded in software: {why}" for why in decoder.get("fallbacks", ())]
        found += [f"{result.name}: FAILED: {part}: {why}" for part, why in result.sample.failed.items()]
    return found
