"""Reading weights files: what is taken from them, what is refused, and what the messages name."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from streamlight.errors import ModelError
from streamlight.models.weights import assemble, compare, read_weights, write_safetensors


def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([0.5, -1.0])}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_both_containers_give_the_same_tensors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(state(), path) if suffix == ".safetensors" else torch.save(state(), path)
    weights = read_weights(path)
    assert set(weights.tensors) == set(state())
    assert all(torch.equal(weights.tensors[name], value) for name, value in state().items())
    assert weights.container == ("safetensors" if suffix == ".safetensors" else "torch")


def test_the_old_torch_container_is_read(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert set(read_weights(tmp_path / "old.pth").tensors) == set(state())


def test_wrapper_prefixes_go(tmp_path: Path) -> None:
    torch.save(OrderedDict((f"module._orig_mod.{name}", value) for name, value in state().items()), tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth").tensors) == set(state())


def test_a_name_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    torch.save({**state(), "module.a.bias": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"'a\.bias' twice"):
        read_weights(tmp_path / "w.pth")


def test_training_checkpoint_with_namespaces(tmp_path: Path) -> None:
    averaged = {"a.weight": torch.ones(2, 3)}
    checkpoint = {
        "epoch": 3,
        "state_dict": {f"module.{name}": value for name, value in state().items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "ema_helper": averaged,
        "config": argparse.Namespace(model=argparse.Namespace(ch=64)),
    }
    torch.save(checkpoint, tmp_path / "w.pth")
    plain = read_weights(tmp_path / "w.pth")
    assert (plain.entry, plain.ema) == ("state_dict", "available")
    assert plain.beside == ("epoch", "optimizer", "ema_helper", "config")
    assert torch.equal(plain.tensors["a.weight"], state()["a.weight"])
    moved = read_weights(tmp_path / "w.pth", ema=True)
    assert moved.ema == "used"
    assert torch.equal(moved.tensors["a.weight"], averaged["a.weight"])
    assert torch.equal(moved.tensors["a.bias"], state()["a.bias"])  # not averaged: from the plain weights


def test_nested_average(tmp_path: Path) -> None:
    torch.save({"model": state(), "ema": {"shadow": {"a.bias": torch.ones(2)}}}, tmp_path / "w.pth")
    assert torch.equal(read_weights(tmp_path / "w.pth", ema=True).tensors["a.bias"], torch.ones(2))


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_average_that_is_not_there(tmp_path: Path, wrapped: bool) -> None:
    torch.save({"state_dict": state()} if wrapped else state(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no averaged"):
        read_weights(tmp_path / "w.pth", ema=True)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, new: bool) -> None:
    flag, path = tmp_path / "flag", tmp_path / "evil.pth"
    torch.save({**state(), "x": Evil(flag)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(ModelError, match=r"evil\.pth: refused: it asks for '(posix|nt)\.system'"):
        read_weights(path)
    assert not flag.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"w{suffix}"
    big = {"a.weight": torch.randn(64, 64), "a.bias": torch.randn(64)}
    save_file(big, path) if suffix == ".safetensors" else torch.save(big, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=rf"w\{suffix}: is (truncated|damaged)"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Google Drive - Virus scan warning", "web page"),
        (b"\x00\x01hello", "not a weights file"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", "not a weights file"),
        (b"\x80\x00\x01\x00\x00\x00\x00\x00{", "truncated"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=text):
        read_weights(tmp_path / "w.pth")


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(ModelError, match="folder"):
        read_weights(tmp_path)


@pytest.mark.parametrize(("found", "text"), [([1, 2], "holds a list"), ({"epoch": 1}, "its entries are epoch")])
def test_files_without_a_state_dict(tmp_path: Path, found: object, text: str) -> None:
    torch.save(found, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=text):
        read_weights(tmp_path / "w.pth")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    bad = {"a.weight": torch.zeros(3, 3), "b": torch.zeros(1), "dead.x": torch.zeros(1)}
    fit = compare(Net(), bad, unused=[r"dead\."])
    assert fit.missing == ("a.bias",)
    assert fit.surplus == ("b",)
    assert fit.unused == ("dead.x",)
    assert fit.misshapen == (("a.weight", (3, 3), (2, 3)),)
    torch.save(bad, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"missing: a\.bias;.*: b, dead.x;.*a\.weight is 3x3, expected 2x3"):
        assemble(Net, read_weights(tmp_path / "w.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(tmp_path: Path, value: float) -> None:
    torch.save({**state(), "a.bias": torch.tensor([value, 0.0])}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"NaN or infinity: a\.bias"):
        assemble(Net, read_weights(tmp_path / "w.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_small_types_are_read_and_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    small = {name: value.to(dtype) for name, value in state().items()}
    write_safetensors(tmp_path / "w.safetensors", small)
    network = assemble(Net, read_weights(tmp_path / "w.safetensors"))
    assert network.a.weight.dtype == torch.float32
    assert torch.equal(network.a.weight, small["a.weight"].float())
    assert network.a.weight.requires_grad
    assert not network.training


def test_tied_tensors_can_be_written(tmp_path: Path) -> None:
    tied = torch.randn(3)
    write_safetensors(tmp_path / "w.safetensors", {"a": tied, "b": tied})
    assert torch.equal(load_file(tmp_path / "w.safetensors")["b"], tied)


def test_an_unwritable_target_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        write_safetensors(tmp_path / "absent" / "w.safetensors", state())
