"""Report: plain, finite, complete JSON."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from streamlight.engine import Pipeline, Report, Stage, peak_memory, to_plain


def test_report_is_json_with_all_figures():
    report = Report("in.mp4", "out.mp4", status="done", frames={"in": 3, "out": 3})
    report.add_pipeline(Pipeline(range(3), [Stage("sink", iter)]).run())
    report.warn("a", "b")
    report.warn("a", "b")
    data = json.loads(report.to_json())
    assert data["frames"] == {"in": 3, "out": 3}
    assert [s["name"] for s in data["stages"]] == ["source", "sink"]
    assert {"items_in", "items_out", "busy", "wait_in", "wait_out"} <= set(data["stages"][0])
    assert {"p50", "p95", "p99"} <= set(data["latency"])
    assert data["warnings"] == [{"code": "a", "message": "b"}]


def test_plain_values():
    value = {1: Fraction(1, 3), "p": Path("x"), "n": np.float32(0.5), "bad": math.nan, "t": (1, None, True)}
    assert to_plain(value) == {"1": "1/3", "p": "x", "n": 0.5, "bad": None, "t": [1, None, True]}


def test_peak_memory_sees_an_allocation():
    before = peak_memory()
    block = np.ones(64 << 20, np.uint8)
    assert block.sum() == 64 << 20
    assert peak_memory() >= before
    assert peak_memory() > 64 << 20
