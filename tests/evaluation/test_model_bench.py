"""The benchmark of the generative models, on a picture of a few pixels."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from streamlight.errors import ConfigError, ModelError
from streamlight.evaluation import model_bench, model_case


def test_a_case_counts_work_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_case, "product_gflops", lambda dtype: 100.0)
    order = model_case.ModelOrder("llflow", "LOL_smallNet", 40, 32)
    sample = model_case.run(order)
    larger = model_case.run(model_case.ModelOrder("llflow", "LOL_smallNet", 80, 64))
    # The work of a fully convolutional network grows with the area (the flow's levels pad alike here).
    assert larger.macs == pytest.approx(4 * sample.macs, rel=0.05)
    assert sample.macs / (40 * 32) == pytest.approx(0.615e6, rel=0.2)  # published: 0.615 MMAC a pixel
    assert sample.seconds > 0
    assert sample.peak_memory > 50e6
    assert sample.parameters > 1_000_000


def test_matmul_ceiling_is_positive() -> None:
    assert model_case.product_gflops(torch.float32, size=64, runs=2) > 0


def test_table(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = model_case.ModelSample(8.0, 1.0, 4_000_000_000, 10.0, 10**9, 5)
    monkeypatch.setattr(model_bench, "run_model_case", lambda order: sample)
    result = model_bench.bench_models(["llflow"], dtypes=["float32"], command="x")
    (figure,) = result.figures
    assert figure.of_reference == 0.5
    assert figure.gflops == pytest.approx(1.0)
    assert figure.of_ceiling == pytest.approx(0.1)
    text = "\n".join(result.lines())
    assert "600x400" in text
    assert "0.50" in text
    assert json.dumps(result.to_dict())
    other = model_bench.bench_models(["llflow"], dtypes=["float32"], size=(64, 48))
    assert other.figures[0].of_reference is None


def test_wrong_use() -> None:
    with pytest.raises(ConfigError, match="unknown target 'glair'"):
        model_bench.bench_models(["glair"])
    with pytest.raises(ConfigError, match="1280x720"):
        model_bench.parse_size("1280")
    with pytest.raises(ModelError, match="no published configuration 'big'"):
        model_case.build_random("llflow", "big")
    with pytest.raises(ModelError, match="float8"):
        model_bench.run_model_case(model_case.ModelOrder("llflow", "LOL_smallNet", 8, 8, "float8"))


def test_bench_without_a_sub_command_is_the_video_bench() -> None:
    from streamlight.cli._main import group

    runner = CliRunner()
    both = [runner.invoke(group, ["bench", *words, "--help"]) for words in (["video"], ["--repeat", "2"])]
    assert both[0].exit_code == both[1].exit_code == 0
    assert "two synthetic 1080p clips" in both[0].output
    assert both[0].output == both[1].output
