"""Who is thanked: exactly the authors of what a recipe trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlight.cli._main import run
from streamlight.errors import ConfigError, MediaError
from streamlight.training.credits import credits_of
from tests.evaluation.pictures import scene, write

RECIPE = """
task: llflow
options: {network: {nf: 8, nb: 1, growth: 4, taps: [0], steps: [1, 1, 1], plain_steps: 1, hidden: 8}}
data: {photos: [photos], exclude: ["photos/held*"], size: [64, 64]}
steps: 1
"""
TABLE = """file,author,licence,source
photos/a.png,Ann,CC0-1.0,github:a
photos/b.png,"Bo, Cy",CC-BY-4.0,github:b
photos/held.png,Di,MIT,github:d
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b", "held"):
        write(tmp_path / f"photos/{name}.png", scene(64, 64))
    (tmp_path / "CREDITS.csv").write_text(TABLE)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_what_is_excluded_is_not_credited(data: Path) -> None:
    found = credits_of([data / "recipe.yaml"], data)
    assert [(credit.file, credit.author) for credit in found] == [("photos/a.png", "Ann"), ("photos/b.png", "Bo, Cy")]


def test_a_file_without_credit_is_named(data: Path) -> None:
    write(data / "photos/new.png", scene(64, 64))
    with pytest.raises(ConfigError, match=r"does not name photos/new.png; every training file"):
        credits_of([data / "recipe.yaml"], data)
    (data / "CREDITS.csv").write_text("name,author\nx,y\n")
    with pytest.raises(MediaError, match="expected the columns file, author, licence, source"):
        credits_of([data / "recipe.yaml"], data)
    (data / "CREDITS.csv").unlink()
    with pytest.raises(MediaError, match=r"cannot read .*CREDITS.csv"):
        credits_of([data / "recipe.yaml"], data)


def test_the_command_writes_the_record(data: Path) -> None:
    golden = Path(__file__).resolve().parent.parent / "golden" / "llflow" / "weights.safetensors"
    weights = data / "mine.safetensors"
    weights.write_bytes(golden.read_bytes())
    words = ["--recipe", str(data / "recipe.yaml"), "--data", str(data), "--note", "unfinished"]
    assert run(["models", "credit", str(weights), *words]) == 0
    record = json.loads((data / "mine.json").read_text())
    assert [credit["licence"] for credit in record["credits"]] == ["CC0-1.0", "CC-BY-4.0"]
    assert (record["recipes"], record["note"], record["steps"]) == (["recipe.yaml"], "unfinished", None)
