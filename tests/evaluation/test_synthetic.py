"""The synthetic validation set is the same one everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamlight.cli._main import run
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation import synthetic
from streamlight.evaluation.making import digest
from streamlight.evaluation.synthetic import found_pairs, held_out, parameters_of, read_photograph, synthetic_pairs
from tests.evaluation.pictures import read, scene, write

NAMES = ["train/a/1.png", "train/b/1.png"]


def rounded(value: Any) -> Any:
    """Plain values to nine digits: the last one is the mathematical library's."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photographs of one name in two folders."""
    for seed, (name, size) in enumerate(zip(NAMES, [(90, 60), (60, 75)], strict=True)):
        write(tmp_path / "data" / name, scene(*size, seed=seed))
    return tmp_path / "data"


def test_the_definition_is_pinned() -> None:
    """Whoever changes the draw, its ranges or the list changes every published figure: give the set a new version."""
    names = held_out()
    assert len(set(names)) == len(names) == 40
    found = digest([[name, rounded(parameters_of(name).to_json())] for name in names])
    assert found == "e1b1e76e6eae1f16fd8cc1b3c82b87ed13164e9cfe1e5cc83aa7d02ea5c5a6da"


def test_pairs_are_dark_and_repeat_whatever_stands_beside_them(data: Path) -> None:
    with synthetic_pairs(data, names=NAMES) as both:
        assert [pair.name for pair in both] == ["a_1", "b_1"]
        dark, lit = read(both[1].low), read(both[1].reference)
        assert dark.shape == lit.shape == (75, 60, 3)
        folder = both[1].low.parent
    assert not folder.exists()
    with synthetic_pairs(data, names=NAMES[1:]) as (alone,):
        assert np.array_equal(read(alone.low), dark)
        assert np.array_equal(read(alone.reference), lit)


def test_a_cache_is_used_until_a_photograph_changes(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with synthetic_pairs(data, names=NAMES, cache=cache) as pairs:
        first = pairs[0].low
    marked = write(first, scene(90, 60, seed=9))  # would not be made like this
    with synthetic_pairs(data, names=NAMES, cache=cache) as pairs:
        assert pairs[0].low == marked
    write(data / NAMES[1], scene(60, 75, seed=5))
    with synthetic_pairs(data, names=NAMES, cache=cache) as pairs:
        assert pairs[0].low != marked
    assert len(list(cache.iterdir())) == 2


def test_photographs_are_reduced_to_640_pixels(tmp_path: Path) -> None:
    large = write(tmp_path / "1.png", np.kron(scene(480, 320), np.ones((3, 3, 1), np.uint8)))
    reduced = read_photograph(large)
    assert reduced.shape == (3, 427, 640)
    assert read_photograph(write(tmp_path / "2.png", scene(64, 48))).shape == (3, 48, 64)


def test_what_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"c/9.png: is missing"), synthetic_pairs(data, names=["c/9.png"]):
        pass
    with pytest.raises(ConfigError, match="--dataset synthetic needs --root"), found_pairs(dataset="synthetic"):
        pass
    with pytest.raises(ConfigError, match="--cache"), found_pairs(pairs=data, cache=tmp_path):
        pass


def test_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "held_out", lambda: NAMES)
    target = tmp_path / "report.json"
    words = ["--dataset", "synthetic", "--root", str(data), "--json", str(target)]
    assert run(["evaluate", "images", *words]) == 0
    report = json.loads(target.read_text())
    assert report["dataset"] == {"name": "synthetic", "pairs": 2}
