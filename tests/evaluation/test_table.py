"""`streamlight evaluate table` on data of its own, and the goals."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from streamlight.cli._main import run
from streamlight.evaluation import speed, synthetic, table, video
from streamlight.evaluation.contenders import parse_contender
from streamlight.evaluation.goals import DAY, GOALS, NIGHT, PLAIN, REAL, Goal, outcomes
from streamlight.models import names
from streamlight.models.record import read_record, record_credits
from tests.clips import make_clip
from tests.evaluation.pictures import scene, write, write_pairs


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of the data with next to nothing in them."""
    root = tmp_path / "the data"
    write(root / "train/photos/a/1.png", scene(64, 48))
    pairs = write_pairs(root / "val_real_pairs", [(48, 40), (40, 48)], reference="ref")
    (pairs / "pairs.csv").write_text("name\n1.png\n2.png\n")
    for folder in ("video", "night_video"):
        (root / folder).mkdir()
    make_clip(root / "video/day.mp4", frames=35, sound=False)
    night = make_clip(root / "night_video/a_night.mp4", frames=34, sound=False)
    monkeypatch.setattr(table, "names", lambda: ["retinex"])
    monkeypatch.setattr(table, "evaluate_video", partial(video.evaluate_video, frames=34))
    monkeypatch.setattr(synthetic, "held_out", lambda: ["train/photos/a/1.png"])
    monkeypatch.setattr(video, "CLIPS", {"video/day.mp4": "dashcam"})
    monkeypatch.setattr(speed, "synthetic_clips", lambda folder, progress: [("synthetic dark", night)])
    return root


def test_one_command_measures_everything(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["evaluate", "table", "--data", str(data), "--repeat", "1", "--also", "retinex,denoise=0"]
    target, page = tmp_path / "quality.json", tmp_path / "quality.md"
    words += ["-o", str(page), "--json", str(target)]
    monkeypatch.setattr("sys.argv", ["streamlight", *words])
    assert run(words) == 0
    report, text = json.loads(target.read_text()), page.read_text()
    assert report["pictures"] == {"synthetic": 1, "real pairs": 2}
    for rows in report["stills"].values():
        assert {"input", "gamma", "retinex", "retinex,denoise=0"} <= set(rows)
        assert rows["retinex"]["psnr"] > rows["input"]["psnr"]
    assert [clip["name"] for clip in report["video"]["clips"]] == ["day, x264 crf 20", "day, raw", "a_night.mp4"]
    assert {f["clip"] for f in report["speed"]["figures"]} == {"synthetic dark, 64x48", "a_night.mp4, 64x48"}
    assert report["costs"]["retinex"] == {"parameters": 0, "macs": 0, "size": "1920x1080"}
    assert "    $ streamlight evaluate table --data DATA --repeat 1" in text
    assert str(data) not in text
    assert f"| retinex | {report['stills']['synthetic']['retinex']['psnr']:.2f} /" in text
    assert "| raw, mean | PSNR |" in text
    assert "| retinex | 0 | 0 | 1920x1080 |" in text


def test_parts_can_be_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "table", "--data", str(data), "--part", "stills"]) == 0
    said = capsys.readouterr().out
    assert "real pairs, 2: PSNR / SSIM / GT-mean PSNR" in said
    assert "moving |" not in said
    (data / "val_real_pairs" / "pairs.csv").unlink()
    assert run(["evaluate", "table", "--data", str(data), "--part", "stills"]) == 1
    assert "pairs.csv" in capsys.readouterr().err


def test_cards_get_the_figures_of_their_models(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a file that stands for weights of retinex."""
    weights = tmp_path / "retinex.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(table, "packaged_weights", lambda name: weights if name == "retinex" else None)
    words = ["evaluate", "table", "--data", str(data), "--part", "stills", "--cards"]
    assert run(words) == 1
    assert "run 'streamlight models credit' first" in capsys.readouterr().err
    record_credits(weights, recipes=["a.yaml"], credits=[])
    assert run(words) == 0
    record = read_record(weights)
    assert record is not None
    assert record.measured is not None
    assert record.measured.macs == 0
    first, second = record.measured.lines
    assert first.startswith("retinex on synthetic (1 pictures): PSNR ")
    assert second.startswith("retinex on real pairs (2 pictures): PSNR ")


def test_every_model_in_the_package_is_in_the_table() -> None:
    labels = {*table._tonenet(plain=True), *table._generative(), table.RETINEX}
    assert {label.split(",")[0] for label in labels} == set(names())
    for label in labels:
        assert parse_contender(label).label == label


def test_goals_are_held_against_numbers_or_other_models() -> None:
    measured = {
        (REAL, DAY, "psnr"): 20.6,
        (REAL, DAY, "ssim"): 0.80,
        ("raw", NIGHT, "moving"): 28.0,
        ("raw", NIGHT + PLAIN, "moving"): 27.0,
        ("raw", NIGHT, "static"): 30.0,
        ("ken2190_night.mp4", NIGHT, "noise"): 0.7,
    }
    found = outcomes(lambda *place: measured.get(place))
    assert [(o.goal.key, o.met) for o in found] == [("psnr", True), ("ssim", False), ("moving", True), ("noise", False)]
    assert found[2].limit == 27.0
    assert outcomes(lambda *place: measured.get(place), goals=[Goal("x", "y", "z", least=1.0)]) == []


def test_every_goal_has_one_limit() -> None:
    for goal in GOALS:
        assert sum((goal.least is not None, goal.most is not None, bool(goal.than))) == 1
