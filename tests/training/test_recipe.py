"""Recipes: what they say, and what they are told when they say it wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamlight.errors import ConfigError
from streamlight.training.recipe import ScheduleRecipe, differences, read_recipe, write_recipe
from tests.training import toy

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs" / "train").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _toy() -> None:
    toy.register()


def read(tmp_path: Path, **changes: Any) -> Any:
    return read_recipe(toy.write_toy_recipe(tmp_path / "r.yaml", **changes))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_the_recipes_of_the_package_are_valid(path: Path) -> None:
    assert read_recipe(path).steps > 0


def test_values_and_defaults(tmp_path: Path) -> None:
    recipe = read(tmp_path, options={"width": 9})
    assert recipe.optimizer.rate == 0.01  # YAML 1.1 reads 1e-2 as text
    assert recipe.options.width == 9
    assert recipe.data.size == (32, 40)
    assert recipe.data.flips
    assert recipe.data.degradation.exposure == (1 / 100, 1 / 1.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stepz": 3}, r"unknown key 'stepz'; did you mean 'steps'\?"),
        ({"data": {"poool": 3}}, r"unknown key 'data.poool'; did you mean 'pool'\?"),
        ({"data": {"degradation": {"exposur": [0.1, 0.2]}}}, r"'data.degradation.exposur'; did you mean 'exposure'\?"),
        ({"options": {"widht": 3}}, r"unknown key 'options.widht'; did you mean 'width'\?"),
        ({"optimizer": {"lr": 1}}, "unknown key 'optimizer.lr'"),
        ({"task": "toys"}, r"unknown task 'toys'; did you mean 'toy'\?"),
        ({"steps": ...}, "'steps' is missing"),
        ({"steps": 0}, "steps: 0 is not allowed"),
        ({"steps": True}, "steps: True is not allowed"),
        ({"clip": -1}, "clip: -1 is not allowed"),
        ({"ema": 1}, "ema: 1 is not allowed"),
        ({"precision": "float64"}, "precision: 'float64' is not allowed"),
        ({"data": {"size": [32]}}, "data.size"),
        ({"data": {"photos": []}}, "name pictures to learn from"),
        ({"data": {"crop": [64, 24]}}, r"crop \[64, 24\] is larger than size \[32, 40\]"),
        ({"data": {"clips": ["a.mp4"], "pool": 0}}, "clips need a pool"),
        ({"data": {"coverage": [0.9, 0.5]}}, "coverage must be a range"),
        ({"data": {"degradation": {"exposure": [0.5, 0.1]}}}, "exposure must be a range"),
        ({"schedule": {"name": "steps"}}, "milestones belong to the schedule 'steps'"),
        ({"data": {"exclude": ["gone.txt"]}}, "data.exclude: the list .*gone.txt cannot be read"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "is not valid YAML in line"), ("- a", "must hold keys"), (None, "does not exist")]
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_recipe(tmp_path / "r.yaml")


def test_lists_of_names_are_put_in_and_the_copy_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "held_out.txt").write_text("# never trained on\nphotos/01.png\n\nphotos/03.png\n")
    recipe = read(tmp_path, data={"exclude": ["held_out.txt", "photos/x*"]})
    assert recipe.data.exclude == ("photos/01.png", "photos/03.png", "photos/x*")
    (tmp_path / "copy").mkdir()
    write_recipe(recipe, tmp_path / "copy" / "recipe.yaml")
    again = read_recipe(tmp_path / "copy" / "recipe.yaml")
    assert again == recipe
    assert yaml.safe_load((tmp_path / "copy" / "recipe.yaml").read_text())["options"] == {
        "width": 4,
        "ballast": 1,
        "poison": None,
    }


def test_options_on_the_command_line_win(tmp_path: Path) -> None:
    path = toy.write_toy_recipe(tmp_path / "r.yaml")
    assert read_recipe(path, steps=77).steps == 77
    assert read_recipe(path, steps=None).steps == 12


def test_differences_name_the_key() -> None:
    before = {"seed": 0, "data": {"size": [1, 2], "pool": 3}, "options": {}}
    now = {"seed": 1, "data": {"size": [1, 2], "pool": 4}, "options": {"a": 1}}
    assert differences(before, before) == []
    found = differences(before, now)
    assert "seed: 0 in the run, 1 now" in found
    assert "data.pool: 3 in the run, 4 now" in found
    assert any(text.startswith("options.a: absent in the run, 1") for text in found)


def test_schedules() -> None:
    constant = ScheduleRecipe(name="constant", warmup=3)
    assert [constant.factor_at(step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = ScheduleRecipe(name="cosine", warmup=0, floor=0.1)
    assert cosine.factor_at(0, 100) == 1.0
    assert cosine.factor_at(50, 100) == pytest.approx(0.55)
    assert cosine.factor_at(100, 100) == cosine.factor_at(500, 100) == pytest.approx(0.1)
    steps = ScheduleRecipe(name="steps", warmup=0, milestones=(0.5, 80), factor=0.1)
    assert [steps.factor_at(step, 100) for step in (0, 49, 50, 79, 80, 99)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
