"""Darkened clips, and `streamlight evaluate video` as it is used."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamlight.cli._main import run
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation import video
from streamlight.evaluation.contenders import parse_contender
from streamlight.evaluation.darkened import CURVE, darkened
from streamlight.evaluation.video import Row, _mean
from streamlight.media.clips import write_clip
from streamlight.media.encode import EncodeSettings
from streamlight.media.frame import ColorSpec, Frame
from tests.clips import make_clip
from tests.evaluation.pictures import scene

FRAMES = 34
RATE = Fraction(10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still scene by day with a thing that crosses it."""
    root = tmp_path_factory.mktemp("data")
    (root / "video").mkdir()
    still = (16 + scene(160, 96)[..., 1] * (219 / 255)).astype(np.uint8)
    grey = np.full((48, 80), 128, np.uint8)
    frames = []
    for index in range(40):
        luma = still.copy()
        luma[30:60, 3 * index : 3 * index + 30] = 200 - 2 * np.arange(30)
        frames.append(Frame((luma, grey, grey), ColorSpec(), pts=index, time_base=1 / RATE))
    write_clip(root / "video/day.mkv", frames, settings=EncodeSettings(codec="ffv1"), rate=RATE)
    return root


def luma(path: Path) -> np.ndarray:
    """``(T, H, W)``, read by PyAV alone."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="yuv420p")[: frame.height] for frame in container.decode(video=0)])


def test_darkened_clips_have_a_25th_of_the_light(data: Path, tmp_path: Path) -> None:
    with darkened(data / "video/day.mkv", camera="dashcam", frames=FRAMES, cache=tmp_path) as clips:
        assert [clip.name for clip in clips] == ["day, x264 crf 20", "day, raw"]
        coded, raw = (luma(clip.path) for clip in clips)
        clean = np.stack(clips[0].reference)
    assert coded.shape == raw.shape == clean.shape == (FRAMES, 96, 160)
    light = [
        _linear((codes[:, 60:].astype(float).mean(0) - 16) / 219)  # at rest: the mean over time is free of noise
        for codes in (clean, raw)
    ]
    bright = light[0] > 0.1
    assert np.median(light[1][bright] / light[0][bright]) == pytest.approx(1 / 25, rel=0.1)
    assert raw[:, 60:].std(0).mean() > 1.0
    assert coded[:, 60:].std(0).mean() < raw[:, 60:].std(0).mean()
    with darkened(data / "video/day.mkv", camera="dashcam", frames=FRAMES) as again:
        assert np.array_equal(luma(again[1].path), raw)


def _linear(value: np.ndarray) -> np.ndarray:
    """The tone curve inverted, by a table of its own."""
    x = np.linspace(0, 1, 4001)
    v = x ** (1 / CURVE.gamma)
    s = CURVE.contrast
    return np.interp(value, (1 - s) * v + s * (3 * v**2 - 2 * v**3), x)


def test_the_command(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(video, "CLIPS", {"video/day.mkv": "surveillance"})
    night = make_clip(tmp_path / "night.mp4", frames=36, sound=False)
    target, page = tmp_path / "report.json", tmp_path / "page.md"
    words = ["retinex", "retinex,denoise=0", "gamma", "--data", str(data), "--clip", str(night)]
    words += ["--json", str(target), "--markdown", str(page), "--cache", str(tmp_path / "cache"), "--frames", "36"]
    assert run(["evaluate", "video", *words]) == 0
    said, report = capsys.readouterr(), json.loads(target.read_text())
    assert [clip["name"] for clip in report["clips"]] == ["day, x264 crf 20", "day, raw", "night.mp4"]
    assert [clip["frames"] for clip in report["clips"]] == [6, 6, 6]
    assert list(report["mean"]) == ["x264 crf 20", "raw"]
    rows = report["clips"][1]["rows"]
    assert list(rows) == ["input", "retinex", "retinex,denoise=0", "gamma"]
    assert rows["input"]["gain"] == rows["input"]["noise"] == 1
    assert rows["retinex"]["psnr"] > rows["input"]["psnr"] + 3
    assert rows["retinex"]["noise"] < rows["retinex,denoise=0"]["noise"] < 1.5
    assert all(rows[name][key] > 10 for name in rows for key in ("gt_mean", "moving", "static"))
    assert report["clips"][2]["rows"]["retinex"]["psnr"] is None
    assert report["models"]["retinex,denoise=0"]["settings"]["denoise"] == 0
    assert "| raw, mean | PSNR | GT-mean | moving | static | SSIM | gain | noise |" in said.out
    assert said.out.count("| retinex |") == 3
    assert report["machine"]["cpu"] in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["retinex"], "nothing to measure"),
        (["retinex", "retinex", "--clip", "x.mp4"], "different names"),
        (["retinx", "--clip", "x.mp4"], "did you mean 'retinex'"),
        (["retinex,denois=0", "--clip", "x.mp4"], "did you mean 'denoise'"),
        (["retinex,codec=h264", "--clip", "x.mp4"], "options of the model"),
        (["retinex,denoise=7", "--clip", "x.mp4"], "denoise"),
        (["gamma,denoise=0", "--clip", "x.mp4"], "has no settings"),
        (["retinex", "--clip", "x.mp4", "--frames", "20"], "at least 32 frames"),
    ],
)
def test_wrong_use(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "video", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_clips_that_do_not_serve(data: Path, tmp_path: Path) -> None:
    short = make_clip(tmp_path / "short.mp4", frames=20, sound=False)
    retinex = [parse_contender("retinex")]
    with pytest.raises(MediaError, match=r"short.mp4: has fewer than 32 frames"):
        video.evaluate_video(retinex, clips=[short])
    with pytest.raises(MediaError, match=r"opencv_vtest.avi: is missing"):
        video.evaluate_video(retinex, data=data)
    with (
        pytest.raises(MediaError, match="has 40 frames, 41 are needed"),
        darkened(data / "video/day.mkv", camera="dashcam", frames=41),
    ):
        pass


def test_a_contender_is_a_model_with_options() -> None:
    found = parse_contender("retinex, denoise=0.5, working-size=320, preset=realtime")
    assert (found.config.model.name, found.config.model.denoise, found.config.model.working_size) == (
        "retinex",
        0.5,
        320,
    )
    assert found.config.output.encoder_preset == "ultrafast"
    assert parse_contender("input").baseline == "input"
    assert parse_contender("somewhere/net.safetensors").label == "net.safetensors"
    assert parse_contender("somewhere/net.safetensors,label=new").label == "new"
    with pytest.raises(ConfigError, match="preset"):
        parse_contender("retinex,preset=fastest")


def test_a_mean_is_not_told_where_a_clip_has_no_figure() -> None:
    full = Row(*[2.0] * 9)
    partly = Row(4.0, None, *[2.0] * 7)
    assert _mean([full, partly]) == Row(3.0, None, *[2.0] * 7)
