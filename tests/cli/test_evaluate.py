"""`streamlight evaluate images` as it is used."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from streamlight.cli._main import run
from tests.evaluation.pictures import darkened, read, scene, write, write_pairs

LLFLOW = Path(__file__).resolve().parent.parent / "golden" / "llflow" / "weights.safetensors"


def evaluate(folder: Path, tmp_path: Path, *words: str) -> dict:
    target = tmp_path / "report.json"
    assert run(["evaluate", "images", "--pairs", str(folder), "--json", str(target), *words]) == 0
    return json.loads(target.read_text())


def test_figures_are_those_of_the_pictures_that_enhance_writes(tmp_path: Path) -> None:
    """Three sizes, odd ones among them; read back by OpenCV and scored by scikit-image."""
    folder = write_pairs(tmp_path / "set", [(96, 64), (61, 47), (130, 31)])
    report = evaluate(folder, tmp_path)
    assert [(p["name"], p["width"], p["height"]) for p in report["pictures"]] == [
        ("1", 96, 64),
        ("2", 61, 47),
        ("3", 130, 31),
    ]
    psnrs, ssims = [], []
    for picture in report["pictures"]:
        name = f"{picture['name']}.png"
        bright = tmp_path / name
        assert run(["enhance", str(folder / "low" / name), "-o", str(bright)]) == 0
        lit = read(folder / "high" / name)
        for key, mine in (("result", read(bright)), ("input", read(folder / "low" / name))):
            psnr = peak_signal_noise_ratio(lit, mine)
            ssim = structural_similarity(
                mine, lit, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
            )
            assert picture[key]["plain"]["psnr"] == pytest.approx(psnr, abs=1e-4)
            assert picture[key]["plain"]["ssim"] == pytest.approx(ssim, abs=1e-6)
            if key == "result":
                psnrs.append(psnr)
                ssims.append(ssim)
            grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).mean() for p in (lit, mine)]
            assert picture[key]["gain"] == pytest.approx(grey[0] / grey[1], rel=0.02)
            aligned = np.clip(mine / 255 * picture[key]["gain"], 0, 1)
            psnr = peak_signal_noise_ratio(lit / 255, aligned, data_range=1.0)
            assert picture[key]["gt_mean"]["psnr"] == pytest.approx(psnr, abs=1e-4)
    assert report["mean"]["result"]["plain"]["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-4)
    assert report["mean"]["result"]["plain"]["ssim"] == pytest.approx(np.mean(ssims), abs=1e-6)
    assert report["mean"]["result"]["plain"]["psnr"] > report["mean"]["input"]["plain"]["psnr"] + 3
    assert report["mean"]["result"]["plain"]["lpips"] is None


def test_formats_of_the_dark_picture(tmp_path: Path) -> None:
    """Grey, 16 bit, JPEG: what is scored is RGB of 8 bits."""
    lit = scene(64, 48)
    dark = darkened(lit)
    folder = tmp_path / "set"
    write(folder / "low" / "grey.png", dark.mean(-1).astype(np.uint8))
    write(folder / "low" / "deep.png", dark.astype(np.uint16) * 257)
    write(folder / "low" / "eight.png", dark)
    write(folder / "low" / "lossy.jpg", dark)
    for name in ("grey", "deep", "eight", "lossy"):
        write(folder / "high" / f"{name}.png", lit)
    pictures = {p["name"]: p["input"] for p in evaluate(folder, tmp_path, "--strength", "0")["pictures"]}
    assert pictures["deep"] == pictures["eight"]
    assert pictures["lossy"]["plain"]["psnr"] == pytest.approx(pictures["eight"]["plain"]["psnr"], abs=0.5)
    grey = np.repeat(dark.mean(-1).astype(np.uint8)[..., None], 3, -1)
    assert pictures["grey"]["plain"]["psnr"] == pytest.approx(peak_signal_noise_ratio(lit, grey), abs=1e-4)


def test_report_records_what_where_and_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pairs(tmp_path / "odd|name", [(40, 32), (40, 32)])
    page = tmp_path / "page.md"
    report = evaluate(folder, tmp_path, "--markdown", str(page), "--model", "retinex", "--strength", "0.5", "-v")
    said = capsys.readouterr()
    assert "0 of 2 pictures; 1" in said.err
    assert said.out.count("\n") == 4
    assert "| PSNR | SSIM | PSNR, GT-mean | SSIM, GT-mean | gain |" in said.out
    assert report["model"]["card"]["name"] == "retinex"
    assert report["model"]["settings"]["strength"] == 0.5
    assert report["model"]["weights"] is None
    assert report["command"].split()[0] == "streamlight"
    assert report["machine"]["versions"]["torch"]
    assert "11x11" in report["definitions"]["ssim"]
    text = page.read_text()
    assert said.out.strip() in text
    assert report["machine"]["cpu"] in text
    assert all(len(line.replace("\\|", "").split("|")) == 8 for line in text.splitlines() if line.startswith("|"))


def test_equal_pictures_are_infinite_not_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "set/low/1.png", scene(32, 32))
    write(tmp_path / "set/high/1.png", scene(32, 32))
    report = evaluate(tmp_path / "set", tmp_path, "--strength", "0")
    assert report["mean"]["result"]["plain"] == {"psnr": None, "ssim": 1.0, "lpips": None}
    assert "| inf | 1.0000 |" in capsys.readouterr().out


def test_a_model_with_weights_and_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pairs(tmp_path / "set", [(33, 31)])
    words = ["--model", "llflow", "--weights", str(LLFLOW), "--device", "cpu", "--temperature", "0"]
    report = evaluate(folder, tmp_path, *words)
    assert report["model"]["card"]["name"] == "llflow"
    assert report["model"]["settings"]["temperature"] == 0
    assert report["model"]["weights"]["file"] == "weights.safetensors"
    assert len(report["model"]["weights"]["sha256"]) == 64
    assert run(["evaluate", "--pairs", str(folder), "--steps", "3"]) == 2
    assert "no setting 'steps'" in capsys.readouterr().err


def _png(folder: Path, change: str) -> str:
    """Break the second pair of a set; returns the file that an error must name."""
    low, high = folder / "low" / "2.png", folder / "high" / "2.png"
    if change == "size":
        write(high, scene(48, 41))
    elif change == "turned":
        write(high, scene(40, 48))
    elif change == "text":
        low.write_text("this is no picture\n")
    elif change == "empty":
        high.write_bytes(b"")
    elif change == "cut":
        low.write_bytes(low.read_bytes()[: low.stat().st_size // 2])
    elif change == "cut jpeg":
        low.unlink()
        jpeg = write(low.with_suffix(".jpg"), scene(48, 40))
        jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size * 9 // 10])
        return "low/2.jpg"
    elif change == "one pixel":
        write(low, scene(1, 1))
        write(high, scene(1, 1))
    elif change == "gone":
        low.unlink()
        return "high/2.png"
    return "high/2.png" if change in ("size", "turned", "empty") else "low/2.png"


@pytest.mark.parametrize("change", ["size", "turned", "text", "empty", "cut", "cut jpeg", "one pixel", "gone"])
def test_bad_pairs_end_as_one_line_before_any_work(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pairs(tmp_path / "set", [(48, 40), (48, 40)])
    named = _png(folder, change)

    def never(config: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("streamlight.evaluation.contenders.enhancer_for", never)
    assert run(["evaluate", "images", "--pairs", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert named in said.err
    assert "internal error" not in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either --pairs DIR or --dataset NAME"),
        (["--dataset", "lol2", "--root", "."], "did you mean 'lol'"),
        (["--dataset", "synthetc", "--root", "."], "did you mean 'synthetic'"),
        (["--pairs", "set", "--model", "retinx"], "did you mean 'retinex'"),
        (["--pairs", "set", "--strength", "7"], "--strength"),
        (["--pairs", "set", "--codec", "h264"], "--codec"),
        (["--pairs", "set", "--json", "nowhere/x.json"], "the folder nowhere does not exist"),
        (["--pairs", "set", "--markdown", "set"], "--markdown set: is a folder"),
        (["--pairs", "set", "--json", "-", "--markdown", "-"], "both"),
    ],
)
def test_wrong_use(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("set"), [(32, 32)])
    assert run(["evaluate", "images", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
