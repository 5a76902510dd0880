"""The benchmark on a CUDA device: everything is measured, graphs answer, and nothing fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from streamlight.cli._main import group

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_short_run_measures_everything(tmp_path: Path) -> None:
    target, plot = tmp_path / "x.json", tmp_path / "x.png"
    words = ["tonenet", "tonenet-cameras", "llflow-small", "parity", "pipeline"]
    sizes = ["--size", "640x360", "--frames", "40", "--repeat", "2", "--cameras", "4"]
    done = CliRunner().invoke(
        group, ["bench", "gpu", *words, *sizes, "--json", str(target), "-o", str(plot)], catch_exceptions=False
    )
    assert done.exit_code == 0
    told = json.loads(target.read_text("utf-8"))
    assert [
        (one["case"], one["row"], one["sample"]["failed"]) for one in told["results"] if one["sample"]["failed"]
    ] == []
    assert told["card"] is True
    for one in told["results"]:
        figures, notes = one["sample"]["figures"], one["sample"]["notes"]
        if one["case"] == "row":
            assert {"fps", "eager_ms", "model_of_ceiling", "memory_reserved", "copied_fps"} <= set(figures)
            assert notes["graphs_refused"] == []
            assert notes["frames_from_graph"] == 1.0
            assert 0.0 < figures["model_of_ceiling"] < 1.0
        if one["case"] == "parity":
            assert figures["parity"] < 1e-3
        if one["case"] == "pipeline":
            lanes = {span[0] for span in one["sample"]["spans"]}
            assert {"compute", "download", "encode"} <= lanes
            assert lanes & {"upload", "take in"}
    assert {goal["verdict"] for goal in told["goals"]} == {"unmeasured"}  # a small size is judged by nobody
    assert plot.stat().st_size > 1000
