"""The benchmark of a card, without one: its arithmetic, what it does with failures, and a rehearsal on the CPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from streamlight.cli._main import group
from streamlight.engine import GraphCache, Link, Span
from streamlight.enhance import EnhanceSettings
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.errors import ConfigError, DeviceError, ModelError
from streamlight.evaluation import gpu_bench, gpu_case, gpu_ceilings, gpu_measure, gpu_model, gpu_pipeline
from streamlight.evaluation.gpu_bench import GpuBench, GpuResult
from streamlight.evaluation.gpu_parts import Parts, read_sample
from streamlight.evaluation.gpu_plot import draw_spans
from streamlight.evaluation.gpu_rows import FIGURES, GOALS, PARITY, ROWS, GpuOrder, GpuSample
from streamlight.evaluation.machine import describe_machine
from streamlight.evaluation.model_case import macs_of
from streamlight.models import load
from streamlight.models.protocol import Condition, Prior, Recall
from tests.card import card

NO_CARD = not torch.cuda.is_available()
SMALL = GpuOrder("row", "tonenet", "cpu", width=96, height=64, frames=2, repeat=1, cameras=2, quick=True)


def order(case: Any, row: str = "", **more: Any) -> GpuOrder:
    from dataclasses import replace

    return replace(SMALL, case=case, row=row, **more)


def result(case: Any, row: str, figures: dict[str, float], **more: Any) -> GpuResult:
    return GpuResult(case, row, more.pop("clip", "synthetic"), 1.0, GpuSample(figures, **more))


def bench(*results: GpuResult, device: str = "cuda:0", **asked: Any) -> GpuBench:
    return GpuBench("streamlight bench gpu", describe_machine(), device, GpuOrder("row", **asked), list(results))


def test_ceilings_are_bytes_and_products_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_seconds(action: Any, device: torch.device) -> float:
        action()
        return 2.0

    monkeypatch.setattr(gpu_ceilings, "median_seconds", two_seconds)
    sample = gpu_case.run(order("ceilings", dtype="float32"))
    size = 1 << 22
    assert not sample.failed
    assert sample.figures == pytest.approx(
        {
            "copy_device": 2e-9 * size / 1.0,  # read and written; two copies a call
            "copy_up": 1e-9 * size / 4,
            "copy_down": 1e-9 * size / 4,
            "product_bfloat16": 256**3 / 2e12,
            "product_float32": 256**3 / 2e12,
        }
    )
    assert "not a card" in sample.notes["device"]


def test_a_part_that_fails_leaves_the_others() -> None:
    told: list[str] = []
    parts = Parts(told.append)
    with parts.part("first"):
        parts.sample.figures["fps"] = 3.0
    with parts.part("second"):
        parts.sample.figures["ms"] = float("nan")
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
    with parts.part("third"):
        raise ModelError("model 'x' runs in float32")
    assert parts.sample.figures == {"fps": 3.0}
    assert parts.sample.failed == {
        "second": "OutOfMemoryError: CUDA out of memory.",
        "ms": "is not a finite number",
        "third": "model 'x' runs in float32",
    }
    assert read_sample("\n".join(["{warning}", *told])) == parts.sample
    cut_off = told[0] + "\n" + told[1][: len(told[1]) // 2]
    assert read_sample(cut_off) == GpuSample({"fps": 3.0})
    assert read_sample("nothing\n") is None


def test_a_process_that_dies_or_hangs_keeps_what_it_told(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"figures": {"eager_ms": 5.0}, "notes": {}, "failed": {}, "spans": []})

    def dies(command: list[str], **_: Any) -> Any:
        return subprocess.CompletedProcess(command, -11, line + "\n", "CUDA error: illegal address\n")

    def hangs(command: list[str], *, timeout: float, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout, output=line.encode() + b"\n{")

    monkeypatch.setattr(subprocess, "run", dies)
    sample = gpu_bench.run_case(SMALL)
    assert (sample.figures, sample.failed) == (
        {"eager_ms": 5.0},
        {"process": "signal 11: CUDA error: illegal address"},
    )
    monkeypatch.setattr(subprocess, "run", hangs)
    sample = gpu_bench.run_case(SMALL, limit=7)
    assert (sample.figures, sample.failed) == ({"eager_ms": 5.0}, {"process": "took longer than 7 s and was ended"})


def test_a_process_of_its_own_says_why_it_failed() -> None:
    sample = gpu_bench.run_case(order("row", "tonenet", dtype="float16"))
    assert list(sample.failed) == ["model and frames"]
    assert sample.failed["model and frames"].endswith("runs in float32, bfloat16, not in 'float16'")
    assert "product_float16" in sample.figures


def test_a_row_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_measure, "measure_product", lambda order, parts, dtype: None)
    sample = gpu_case.run(order("row", "tonenet"))
    figures = sample.figures
    assert not sample.failed
    assert set(figures) <= set(FIGURES)
    assert figures["fps"] * figures["ms"] == pytest.approx(1000.0)
    assert figures["copied_fps"] * figures["copied_ms"] == pytest.approx(1000.0)
    assert figures["graph_gain"] == pytest.approx(figures["eager_ms"] / figures["ms"])
    assert figures["frame_gmac"] >= figures["model_gmac"] > 0
    assert figures["frame_tmacs"] == pytest.approx(figures["frame_gmac"] / figures["ms"])
    assert sample.notes["picture"] == "96x64"
    assert sample.notes["graphs_captured"] == 0
    assert not {"memory_allocated", "model_of_ceiling"} & set(figures)  # neither a card nor a ceiling


def test_a_row_goes_on_behind_a_part_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gpu_measure, "_with_graphs", fails)
    sample = gpu_case.run(order("row", "tonenet-cameras"))
    assert sample.failed == {"with graphs": "OutOfMemoryError: CUDA out of memory."}
    assert {"eager_ms", "copied_fps", "model_ms", "model_tmacs"} <= set(sample.figures)
    assert not {"fps", "frame_tmacs"} & set(sample.figures)


class Toy:
    """A model that adds what it is given, so that everything it was asked shows."""

    def condition(self, low: torch.Tensor, *, noise: Any = None, recall: Recall | None = None) -> Condition:
        return Condition(low + noise, recall=recall)

    def prior(self, condition: Condition) -> Prior:
        return Prior(condition.low)

    def decode(self, latent: torch.Tensor, condition: Condition, *, strength: float = 1.0) -> torch.Tensor:
        recall = condition.recall
        assert recall is not None
        assert recall.confidence is not None
        return strength * (latent @ condition.low) + recall.past["x"] + recall.hold * recall.confidence


def test_what_a_model_was_asked_can_be_asked_again() -> None:
    toy: Any = Toy()
    low, noise, latent = (torch.rand(4, 4) for _ in range(3))
    recall = Recall({"x": torch.rand(4, 4)}, torch.rand(4, 4), 0.3)
    with gpu_model.recorded(toy) as calls:
        expected = toy.decode(latent, toy.condition(low, noise=noise, recall=recall), strength=0.7)
    for tensor in (low, noise, latent, recall.past["x"], recall.confidence):
        tensor.zero_()  # type: ignore[union-attr]
    assert "condition" not in vars(toy)
    assert len(calls) == 1
    again: list[torch.Tensor] = []
    link = Link(torch.device("cpu"))
    macs = macs_of(lambda: again.append(calls[0].run(toy, GraphCache(None), link)))
    torch.testing.assert_close(again[0], expected)
    assert macs == 4**3


def test_steps_on_a_device_wait_for_nothing() -> None:
    with card() as sim:
        with sim.allowed():
            model = load("tonenet", dtype="bfloat16", device=sim.device)
            settings = EnhanceSettings(working_size=64)
            enhancer = GuidedEnhancer(model, settings, device=sim.device)
            running = gpu_measure.Running(enhancer, gpu_measure.frames_of(SMALL, 2), cameras=2)
            running.step()
        assert running.link is enhancer.link
        with gpu_model.recorded(model) as calls:
            assert running.seconds(1) > 0.0
        pictures = [call.run(model, running.graphs, running.link) for call in calls]
        assert {picture.device for picture in pictures} == {sim.device}
        assert sum(len(picture) for picture in pictures) == 2


def test_rates_count_neither_the_beginning_nor_the_end() -> None:
    slow_start = [0.0, 5.0, 10.0, 15.0, *(15.0 + 0.1 * k for k in range(1, 6))]
    at_once = [15.5] * 3  # what was under way
    assert gpu_measure.rate_of([*slow_start, *at_once]) == pytest.approx(10.0)
    assert gpu_measure.rate_of([0.0, 1.0, 1.5]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="3 frames"):
        gpu_measure.rate_of([1.0, 2.0])
    assert gpu_measure.fitting(SMALL, 1e-6) == 2
    assert gpu_measure.fitting(order("row", frames=100, repeat=5), 0.1) == 20


def test_shares_of_a_ceiling() -> None:
    figures = {"model_gmac": 200.0, "model_ms": 4.0, "frame_gmac": 210.0, "ms": 5.0, "product_bfloat16": 100.0}
    gpu_measure.relate(figures)
    assert figures["model_tmacs"] == pytest.approx(50.0)
    assert figures["model_of_ceiling"] == pytest.approx(0.5)
    assert figures["frame_of_ceiling"] == pytest.approx(0.42)


def test_parity_finds_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = gpu_case.run(order("parity", "tonenet"))
    assert sample.figures == {"parity": 0.0, "parity_share": 0.0}
    from streamlight.evaluation import gpu_parity

    picture = gpu_parity.parity_picture

    def worse(model: Any, latent: Any = None, device: Any = "cpu") -> Any:
        bright, drawn = picture(model, latent, device)
        bright = bright.clone()
        if latent is not None:
            bright[0, 0, 0, 0] += 0.01 * (bright.max() - bright.min())
        return bright, drawn

    monkeypatch.setattr(gpu_parity, "parity_picture", worse)
    figures = gpu_case.run(order("parity", "tonenet")).figures
    assert figures["parity"] == pytest.approx(0.01, rel=1e-3)
    assert figures["parity_share"] == pytest.approx(1 / (3 * 96 * 128))


def spans(frames: int = 30) -> list[Span]:
    """Ten milliseconds of computing a frame; the upload of the next one behind its second half and beyond."""
    found = []
    for k in range(frames):
        begin = 0.012 * k
        found.append(Span("compute", k, begin, begin + 0.01))
        found.append(Span("upload", k, begin + 0.008, begin + 0.012))
        found.append(Span("encode", k, begin + 0.001, begin + 0.003))
    return found


def test_who_worked_when() -> None:
    found = gpu_pipeline.settled(spans(100))
    assert min(span.index for span in found if span.lane == "encode") == 30
    busy, hidden = gpu_pipeline.shares(found)
    assert list(busy) == ["upload", "compute", "encode"]
    assert busy["compute"] == pytest.approx(10 / 12, abs=0.03)
    assert hidden == {"upload": pytest.approx(0.5, abs=0.02)}
    window = gpu_pipeline.window_of(spans(100))
    assert [k for lane, k, *_ in window if lane == "compute"] == list(range(40, 60))
    assert min(begin for lane, _, begin, _ in window if lane == "compute") == 0.0
    assert gpu_pipeline.window_of([]) == []


def test_goals_are_judged_on_a_card_only() -> None:
    measured = [
        result("row", "glare", {"fps": 31.0, "model_of_ceiling": 0.3}),
        result("row", "llflow", {"fps": 100.0}, clip="x.mp4"),
        result("parity", "glare", {"parity": 2e-3}),
        result("pipeline", "tonenet", {"fps": 900.0, "of_slowest": 0.95}),
    ]
    verdicts = {(o.goal.row, o.goal.key): o.verdict for o in bench(*measured).outcomes()}
    judged = {key: verdict for key, verdict in verdicts.items() if verdict != "unmeasured"}
    assert judged == {
        ("glare", "fps"): "met",
        ("glare", "model_of_ceiling"): "missed",
        ("glare", "parity"): "missed",
        ("pipeline", "of_slowest"): "met",
    }
    assert len(verdicts) == len(GOALS)
    others = (bench(*measured, device="cpu"), bench(*measured, width=640), bench(*measured, dtype="float32"))
    for other in (*others, bench(*measured, quick=True), bench(*measured, cameras=4), bench()):
        assert {outcome.verdict for outcome in other.outcomes()} == {"unmeasured"}
    assert {goal.row for goal in GOALS} <= {*ROWS, "pipeline"}
    assert {goal.key for goal in GOALS} <= set(FIGURES)


def test_text_names_what_failed_and_what_was_refused() -> None:
    notes = {"graphs_captured": 2, "graphs_refused": ["RuntimeError: no"], "frames_from_graph": 0.5}
    made = bench(
        result("ceilings", "", {"product_bfloat16": 400.0}),
        result("row", "glare", {"fps": 31.0}, notes=notes, failed={"model alone": "OutOfMemoryError: x"}),
        result("row", "llflow", {}, failed={"process": "signal 11: y"}),
    )
    made.missing["pipeline"] = "the synthetic clip could not be made: z"
    text = "\n".join(made.lines())
    assert "glare: FAILED: model alone: OutOfMemoryError: x" in text
    assert "glare: no graph: RuntimeError: no" in text
    assert "50% of timed frames" in text
    assert "llflow: FAILED: process: signal 11: y" in text
    assert "pipeline: not begun: the synthetic clip could not be made: z" in text
    assert json.dumps(made.to_dict(), allow_nan=False)


def test_the_plot_has_color_where_a_lane_worked() -> None:
    window = gpu_pipeline.window_of(spans(100))
    made = bench(result("pipeline", "tonenet", {"fps": 83.0}, spans=window, notes={"busy": {"compute": 0.83}}))
    picture = draw_spans(made)
    assert picture is not None
    assert picture.shape == (140 + 3 * 58 + 90, 1600, 3)
    middles = [140 + 58 * row + 29 for row in range(3)]  # upload, compute, encode
    scale = (1600 - 250 - 130) / (1e3 * max(one[3] for one in window if one[0] == "compute"))

    def at(row: int, milliseconds: float) -> tuple[int, ...]:
        return tuple(int(x) for x in picture[middles[row], round(250 + milliseconds * scale)])

    paper = (255, 255, 255)
    assert at(1, 5.0) == (190, 95, 20)
    assert at(1, 11.0) == paper
    assert at(1, 17.0) not in (paper, (190, 95, 20))  # the next frame, in another shade
    assert at(0, 9.0) != paper
    assert at(0, 5.0) == (232, 230, 228)  # grey: only the compute lane works
    assert at(2, 2.0) != paper
    assert at(2, 8.0) == paper
    assert draw_spans(bench(result("row", "glare", {"fps": 1.0}))) is None


@pytest.mark.skipif(not NO_CARD, reason="there is a CUDA device")
def test_without_a_card_one_line_says_what_is_missing() -> None:
    done = CliRunner().invoke(group, ["bench", "gpu"])
    assert isinstance(done.exception, DeviceError)
    assert "bench gpu measures on an NVIDIA card: torch" in str(done.exception)
    assert "\n" not in str(done.exception)


def test_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"unknown row 'llflo'.*llflow"):
        gpu_bench.bench_gpu(["llflo"], device="cpu")
    with pytest.raises(ConfigError, match="dtype must be"):
        gpu_bench.bench_gpu(device="cpu", dtype="int8")
    with pytest.raises(ConfigError, match="repeat >= 1"):
        gpu_bench.bench_gpu(device="cpu", repeat=0)
    with pytest.raises(ConfigError, match="even"):
        gpu_bench.bench_gpu(device="cpu", size=(321, 180))
    monkeypatch.setattr(gpu_bench, "run_case", lambda order: GpuSample(failed={"process": "signal 6: x"}))
    with pytest.raises(DeviceError, match="nothing could be measured on cpu: signal 6: x"):
        gpu_bench.bench_gpu(["tonenet"], device="cpu", quick=True)


def test_a_rehearsal_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def here(order: GpuOrder) -> GpuSample:
        seen.append((order.case, order.row))
        if order.case == "parity" and order.row != "tonenet":
            return GpuSample(failed={"parity": "left out here"})
        return gpu_case.run(order)

    monkeypatch.setattr(gpu_bench, "run_case", here)
    words = ["tonenet", "parity", "pipeline", "--device", "cpu", "--quick", "--size", "96x64", "--repeat", "1"]
    files = ["--json", str(tmp_path / "x.json"), "-o", str(tmp_path / "x.png")]
    done = CliRunner().invoke(group, ["bench", "gpu", *words, *files], catch_exceptions=False)
    assert done.exit_code == 0
    parity = [("parity", row) for row in PARITY]
    assert seen == [("ceilings", ""), *parity, ("row", "tonenet"), ("pipeline", "tonenet")]
    assert "not a card" in done.output
    assert "unmeasured" in done.output
    told = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert (told["card"], told["goals_apply"]) == (False, False)
    assert {goal["verdict"] for goal in told["goals"]} == {"unmeasured"}
    pipeline = told["results"][-1]["sample"]
    assert pipeline["failed"] == {}
    assert {"decode_fps", "enhance_fps", "encode_fps", "fps", "of_slowest"} == set(pipeline["figures"])
    slowest = min(pipeline["figures"][f"{stage}_fps"] for stage in ("decode", "enhance", "encode"))
    assert pipeline["figures"]["of_slowest"] == pytest.approx(pipeline["figures"]["fps"] / slowest)
    assert {"compute", "download", "encode"} <= {span[0] for span in pipeline["spans"]}
    assert pipeline["notes"]["link"]["up"] >= 12
    picture = cv2.imread(str(tmp_path / "x.png"))
    assert picture is not None
    assert np.ptp(picture) > 100
