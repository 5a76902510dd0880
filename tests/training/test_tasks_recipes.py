"""The recipes that ship for LLFlow, GLARE and LLDiffusion: published shapes and settings, and files of our own size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from streamlight import load
from streamlight.models.registry import architecture
from streamlight.training.recipe import Recipe, read_recipe
from streamlight.training.tasks import find_task
from tests.training.tasks import descend, exported, pairs

FOLDER = Path(__file__).resolve().parent.parent.parent / "configs" / "train"
FULL = (
    "llflow_large",
    "llflow_small",
    "glare_vqgan",
    "glare_flow",
    "glare_fusion",
    "lldiffusion",
    "lldiffusion_frozen",
)
SMALL = ("llflow_s", "glare_s_vqgan", "glare_s_flow", "glare_s_fusion", "lldiffusion_s", "lldiffusion_s_frozen")
TINY = ("glare_xs_vqgan", "glare_xs_flow", "glare_xs_fusion", "lldiffusion_xs")
TO_SHIP = ("llflow_s", "glare_s_fusion", "lldiffusion_s_frozen")
MAXIMUM = 40e6
"""Bytes of all weights files of our own size together."""


def recipe(name: str) -> Recipe:
    return read_recipe(FOLDER / f"{name}.yaml")


def test_all_are_here() -> None:
    found = {path.stem for path in FOLDER.glob("*.yaml")}
    assert {*FULL, *SMALL, *TINY} <= found


@pytest.mark.parametrize(
    ("name", "configuration"), [("llflow_large", "LOL-pc"), ("llflow_small", "LOL_smallNet"), ("lldiffusion", None)]
)
def test_shapes_are_the_published_ones(name: str, configuration: str | None) -> None:
    found = recipe(name)
    published = architecture(found.task).published
    assert found.options.network == published[configuration or "deg-unet-lol"]


def test_glare_s_shapes_are_the_published_ones() -> None:
    published = architecture("glare").published["LOL, LOL-v2-real (net_G)"]
    assert recipe("glare_vqgan").options.network == published.autoencoder
    assert recipe("glare_vqgan").options.codes == 8192
    assert recipe("glare_flow").options.network == published.flow


@pytest.mark.parametrize("name", FULL)
def test_full_recipes_train_on_pairs_without_average_or_clipping_of_their_own(name: str) -> None:
    found = recipe(name)
    assert found.data.pairs == ("LOL",)
    assert found.clip is None
    settings: dict[str, Any] = {
        "llflow_large": (16, 40000, 5e-4, 3000, None),
        "llflow_small": (16, 45000, 5e-4, 0, None),
        "glare_flow": (4, 80000, 5e-4, 10, None),
        "glare_fusion": (2, 40000, 5e-5, 10, None),
        "lldiffusion": (8, 2_440_000, 1e-4, 0, 0.9999),
    }
    if name in settings:
        got = (found.batch, found.steps, found.optimizer.rate, found.schedule.warmup, found.ema)
        assert got == settings[name]
        assert found.optimizer.betas == (0.9, 0.999)


@pytest.mark.parametrize("name", [*SMALL, *TINY])
def test_small_recipes_leave_the_held_out_photographs_alone(name: str) -> None:
    found = recipe(name)
    assert len(found.data.exclude) >= 40
    assert found.options.licence == "Apache-2.0"
    assert found.options.training_data
    assert found.options.half


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights files of the recipes of our own size, after one step each."""
    folder = tmp_path_factory.mktemp("small")
    files: dict[str, Path] = {}
    for name in (*SMALL, *TINY):
        found = recipe(name)
        # Recipes start from runs/<recipe>/weights.safetensors of the one before.
        start = None if found.start is None else files[Path(found.start).parent.name]
        torch.manual_seed(0)
        task = find_task(found.task).build(found.options, start=start, device="cpu")
        descend(task, pairs(1, 128, 128), steps=1)
        files[name] = exported(task, folder / f"{name}.safetensors")
    return files


def test_weights_of_our_own_size_are_small(chain: dict[str, Path]) -> None:
    assert sum(chain[name].stat().st_size for name in TO_SHIP) < MAXIMUM
    for name in TO_SHIP:
        assert sum(tensor.numel() for tensor in load_file(chain[name]).values()) < 6.5e6, name


@pytest.mark.parametrize("name", [*TO_SHIP, "glare_xs_fusion", "lldiffusion_xs"])
def test_weights_of_our_own_size_enhance(chain: dict[str, Path], name: str) -> None:
    model = load(chain[name])
    assert model.card.licence == "Apache-2.0"
    assert "CC0" in model.card.training_data
    low = pairs(1, 70, 90)["low"]
    condition = model.condition(low)
    prior = model.prior(condition)
    assert model.decode(prior.mean, condition).shape == low.shape
