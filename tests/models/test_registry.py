"""Opening, describing and converting models by name and by file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from llflow_golden import FOLDER, WEIGHTS, key_list, tensors
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from streamlight import load
from streamlight.errors import ConfigError, ModelError
from streamlight.models import architectures, cards, check, convert, names, registry
from streamlight.models.llflow import LLFlow


def test_names_and_cards() -> None:
    assert "retinex" in names()
    assert "llflow" in architectures()
    listed = {card.name: card for card in cards()}
    assert set(listed) == {*names(), *architectures()}
    assert "non" in listed["llflow"].licence.lower() or "NC" in listed["llflow"].licence


def test_a_file_by_path_and_by_name(tmp_path: Path) -> None:
    low = tensors()["raw_low_uint8"].permute(0, 3, 1, 2)
    by_path, by_name = load(WEIGHTS), load("llflow", weights=WEIGHTS)
    assert isinstance(by_path, LLFlow)
    assert torch.equal(by_path.sample(low), by_name.sample(low))


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        (("retinx",), {}, "did you mean 'retinex'"),
        (("llfow",), {}, "did you mean 'llflow'"),
        (("llflow",), {}, "needs a weights file"),
        (("retinex",), {"weights": WEIGHTS}, "takes no weights"),
        (("absent.pth",), {}, r"absent\.pth: cannot be read"),
        ((WEIGHTS,), {"weights": WEIGHTS}, "two weights files"),
        ((WEIGHTS,), {"temperatur": 1}, "no setting 'temperatur'; did you mean 'temperature'"),
        (("retinex",), {"max_gian": 1}, "did you mean 'max_gain'"),
        ((WEIGHTS,), {"ema": True}, "no averaged"),
    ],
)
def test_wrong_use(arguments: tuple[str], keywords: dict[str, object], text: str) -> None:
    with pytest.raises((ModelError, ConfigError), match=text):
        load(*arguments, **keywords)  # type: ignore[arg-type]


def test_built_in_models_take_their_keywords() -> None:
    assert load("retinex", max_gain=3.0).max_gain == 3.0  # type: ignore[attr-defined]


def test_a_file_of_no_known_architecture(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "w.pth")
    for action in (load, check):
        with pytest.raises(ModelError, match=r"w\.pth: no known architecture has tensors such as fc\.weight"):
            action(tmp_path / "w.pth")


@pytest.mark.parametrize("path", sorted(FOLDER.parent.glob("*/*keys*.txt")), ids=lambda path: path.stem)
def test_every_published_file_has_exactly_one_architecture(path: Path) -> None:
    state = {name.removeprefix("module."): torch.empty(shape, device="meta") for name, shape in key_list(path).items()}
    claimed = [name for name in architectures() if registry._architecture(name).detect(state)]
    assert claimed == [path.parent.name]


def test_description(tmp_path: Path) -> None:
    found = check(WEIGHTS)
    assert found.usable
    assert found.configuration == {
        "nf": 16,
        "nb": 2,
        "growth": 8,
        "taps": (1,),
        "steps": (2, 2, 2),
        "plain_steps": 2,
        "hidden": 8,
    }
    assert found.dtypes == {"float32": 224}
    assert found.published == ()
    json.dumps(found.to_dict())


def test_description_of_a_file_that_does_not_fit(tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    state["RRDB.trunk_conv.bias"] = torch.full((16,), float("nan"))
    state["more"] = torch.zeros(1)
    del state["RRDB.downconv1.bias"]
    save_file(state, tmp_path / "w.safetensors")
    found = check(tmp_path / "w.safetensors")
    assert not found.usable
    assert found.fit.missing == ("RRDB.downconv1.bias",)
    assert found.fit.surplus == ("more",)
    assert found.fit.nonfinite == ("RRDB.trunk_conv.bias",)
    with pytest.raises(ModelError, match="not usable"):
        convert(tmp_path / "w.safetensors", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_converting_keeps_every_tensor_and_the_picture(tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    source, target = tmp_path / "w.pth", tmp_path / "w.safetensors"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "iter": 3}, source)
    assert convert(source, target).architecture == "llflow"
    written = load_file(target)
    assert set(written) == set(state)
    assert all(torch.equal(written[name], value) for name, value in state.items())
    low = tensors()["raw_low_uint8"].permute(0, 3, 1, 2)
    before, after = load(source), load(target)
    assert torch.equal(before.sample(low), after.sample(low))  # type: ignore[attr-defined]
    assert before.card == after.card
    with safe_open(target, "pt") as file:
        assert file.metadata()["streamlight.converted_from"] == "w.pth"
        assert "CC BY-NC-SA" in file.metadata()["streamlight.licence"]


def test_converting_overwrites_only_when_told(tmp_path: Path) -> None:
    target = tmp_path / "w.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(ModelError, match="exists already"):
        convert(WEIGHTS, target)
    assert target.read_bytes() == b"mine"
    convert(WEIGHTS, target, overwrite=True)
    assert len(load_file(target)) == 224
    with pytest.raises(ModelError, match="exists already"):
        convert(target, target, overwrite=True)
    with pytest.raises(ModelError, match=r"must end in \.safetensors"):
        convert(WEIGHTS, tmp_path / "w.pth")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_metadata(tmp_path: Path, text: str) -> None:
    save_file(load_file(WEIGHTS), tmp_path / "w.safetensors", metadata={"streamlight.keywords": text})
    with pytest.raises(ModelError, match=r"streamlight\.keywords"):
        load(tmp_path / "w.safetensors")


def test_metadata_cannot_set_what_the_model_does_not_offer(tmp_path: Path) -> None:
    save_file(load_file(WEIGHTS), tmp_path / "w.safetensors", metadata={"streamlight.keywords": '{"x": 1}'})
    with pytest.raises(ConfigError, match="no setting 'x'"):
        load(tmp_path / "w.safetensors")
