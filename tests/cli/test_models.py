"""`streamlight models …` and weights files in `streamlight enhance`, as they are used."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import av
import numpy as np
import pytest

from streamlight.cli._main import run
from streamlight.models import registry
from tests.clips import make_clip

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
LLFLOW = GOLDEN / "llflow" / "weights.safetensors"
GLARE = GOLDEN / "glare" / "net_g.safetensors"
LLDIFFUSION = GOLDEN / "lldiffusion" / "lol_tiny_weights.safetensors"


def test_list_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    names = [card["name"] for card in json.loads(capsys.readouterr().out)]
    assert sorted(names) == ["glare", "lldiffusion", "llflow", "retinex", "tonenet"]
    assert names[0] in registry.names()  # what can be used at once comes first
    assert run(["models"]) == 0
    assert "CC BY-NC-SA" in capsys.readouterr().out


@pytest.mark.parametrize(("file", "kind"), [(LLFLOW, "llflow"), (GLARE, "glare"), (LLDIFFUSION, "lldiffusion")])
def test_check_and_convert(file: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", str(file), "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert (description["architecture"], description["usable"]) == (kind, True)
    target = tmp_path / "copy.safetensors"
    assert run(["models", "convert", str(file), str(target)]) == 0
    assert run(["models", "check", str(target)]) == 0
    assert kind in capsys.readouterr().out
    assert run(["models", "convert", str(file), str(target)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["retinex", "glare", "lldiffusion", "llflow"])
def test_show_prints_the_whole_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", name, "--json"]) == 0
    sheet = json.loads(capsys.readouterr().out)
    assert sheet["name"] == name
    assert sheet["needs_file"] == (name != "retinex") == bool(sheet["published"])
    assert run(["models", "show", name]) == 0
    text = capsys.readouterr().out
    for fact in (sheet["licence"], sheet["training_data"], sheet["dtypes"][0], *sheet["keywords"]):
        assert fact in text


def test_show_counts_the_published_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "llflow", "--json"]) == 0
    published = json.loads(capsys.readouterr().out)["published"]
    count = 0
    for line in (GOLDEN / "llflow" / "llflow_keys_LOL_smallNet.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        _, shape, *remark = line.split("\t")
        if not remark:
            count += math.prod(int(part) for part in shape.strip("(,)").split(","))
    assert published["LOL_smallNet"]["parameters"] == count


@pytest.mark.parametrize(
    ("name", "said"), [("llflw", "did you mean 'llflow'"), (str(LLFLOW), "is a file; 'streamlight models check")]
)
def test_show_knows_names_only(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", name]) == 2
    assert said in capsys.readouterr().err


def test_check_refuses_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self):
            return (print, ("run!",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"w": Evil()}))
    assert run(["models", "check", str(tmp_path / "evil.pth")]) == 1
    captured = capsys.readouterr()
    assert "run!" not in captured.out
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--model", "llflow"], 2, "needs a weights file"),
        (["--model", "retinex", "--steps", "3"], 2, "no setting 'steps'"),
        (["--model", "llflw"], 2, "did you mean 'llflow'"),
        (["--model", "llflow", "--weights", str(GLARE)], 1, "is a 'glare' file, not 'llflow'"),
        (["--model", "retinex", "--mode", "direct"], 2, "guided mode only"),
        (["--model", str(LLFLOW), "--dtype", "float8"], 2, "float8"),
        (["--model", str(LLFLOW), "--temperature", "nan"], 2, "temperature"),
    ],
)
def test_wrong_use(words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    assert run(["enhance", str(clip), "-o", str(tmp_path / "out.mp4"), *words]) == code
    err = capsys.readouterr().err
    assert said in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize(
    ("weights", "more"),
    [(LLFLOW, []), (GLARE, ["--fidelity", "0.5"]), (LLDIFFUSION, ["--steps", "1", "--seed", "4"])],
    ids=["llflow", "glare", "lldiffusion"],
)
def test_a_weights_file_enhances_a_clip(weights: Path, more: list[str], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    for name in ("a.mp4", "b.mp4"):
        words = ["enhance", str(clip), "-o", str(tmp_path / name), "--model", str(weights), "-q", *more]
        assert run(words) == 0
    pictures = [_pictures(tmp_path / name) for name in ("in.mp4", "a.mp4", "b.mp4")]
    assert [p.shape for p in pictures] == [pictures[0].shape] * 3
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(pictures[1], pictures[2])


def _pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
