"""`streamlight evaluate speed`, and what a network costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from streamlight.cli._main import run
from streamlight.enhance import build_enhancer
from streamlight.evaluation.baselines import AutoGamma
from streamlight.evaluation.contenders import parse_contender
from streamlight.evaluation.cost import cost_of
from streamlight.evaluation.speed import macs_text
from streamlight.models.protocol import Condition
from tests.clips import make_clip


class OneConvolution(AutoGamma):
    """Decodes with a convolution from three channels to three."""

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        return nn.functional.conv2d(condition.low, torch.zeros(3, 3, 5, 5), padding=2)


def test_macs_are_those_of_the_layers_that_ran() -> None:
    assert cost_of(build_enhancer(OneConvolution())).macs == 256 * 256 * 3 * 3 * 25
    enhancer = build_enhancer("retinex")
    found = cost_of(enhancer)
    enhancer.close()
    assert (found.parameters, found.macs, found.size) == (0, 0, "1920x1080")
    assert [macs_text(n) for n in (12, 1_234_000, 594e6, 5e12)] == ["12", "1.23 M", "594 M", "5 T"]


def test_the_command_measures_every_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = make_clip(tmp_path / "night.mp4", frames=12)
    target = tmp_path / "speed.json"
    words = ["retinex", "retinex,denoise=0", "--clip", str(clip), "--encoder-preset", "ultrafast", "--repeat", "1"]
    assert run(["evaluate", "speed", *words, "--json", str(target)]) == 0
    report = json.loads(target.read_text())
    assert [figure["label"] for figure in report["figures"]] == ["retinex", "retinex,denoise=0"]
    for figure in report["figures"]:
        assert (figure["frames"], figure["encoder"]) == (12, "ultrafast")
        assert figure["fps"] > 1
        assert 0 < figure["enhance_ms"] < 1e3 * 12 / figure["fps"]
    assert report["models"]["retinex,denoise=0"]["settings"]["denoise"] == 0
    assert "| retinex,denoise=0 | night.mp4, 64x48 | ultrafast |" in capsys.readouterr().out


def test_options_reach_the_process_that_is_measured() -> None:
    values = parse_contender("retinex,denoise=0.25,working_size=320").values()
    values.pop("model", None)  # told where it is not the default
    assert values == {"denoise": 0.25, "working_size": 320}


@pytest.mark.parametrize("words", [["gamma"], ["retinex", "--repeat", "0"]])
def test_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "speed", *words]) == 2
    assert "speed is measured of models" in capsys.readouterr().err
