"""What lies beside a weights file: credits and figures, and what is not told of other weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamlight.cli._main import run
from streamlight.errors import ModelError
from streamlight.models import registry
from streamlight.models.record import (
    Credit,
    Measured,
    file_digest,
    read_record,
    record_credits,
    record_measured,
    record_path,
)

CREDITS = [Credit("a.png", "Ann", "CC0-1.0", "github:a"), Credit("b.png", "Bo", "CC-BY-4.0", "github:b")]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"weights")
    return file


def measured(weights: Path) -> Measured:
    return Measured(
        file_digest(weights), "streamlight evaluate table", ("a machine",), 12_345, "1920x1080", ("PSNR 20",)
    )


def test_credits_and_figures_are_kept_apart_and_together(weights: Path) -> None:
    record_credits(weights, recipes=["one.yaml", "two.yaml"], credits=CREDITS, steps=1200, note="unfinished")
    record_measured(weights, measured(weights))
    record_credits(weights, recipes=["one.yaml"], credits=CREDITS[:1])
    found = read_record(weights)
    assert found is not None
    assert (found.recipes, found.credits, found.measured) == (("one.yaml",), tuple(CREDITS[:1]), measured(weights))


def test_in_words(weights: Path) -> None:
    record_credits(weights, recipes=["one.yaml", "two.yaml"], credits=CREDITS, steps=1200, note="unfinished")
    record_measured(weights, measured(weights))
    found = read_record(weights)
    assert found is not None
    facts = found.lines(digest=file_digest(weights))
    assert ("trained by", "one.yaml then two.yaml, 1,200 steps") in facts
    assert ("note", "unfinished") in facts
    assert ("credits", "2 files by 2 authors, all in --json") in facts
    assert ("", "1 under CC0-1.0") in facts
    assert ("MACs", "12,345 for a frame of 1920x1080") in facts
    assert ("measured", "PSNR 20") in facts
    other = replace(found, measured=replace(measured(weights), sha256="0"))
    assert "measured" not in dict(other.lines(digest=file_digest(weights)))


def test_nothing_is_told_of_other_weights(weights: Path) -> None:
    record_credits(weights, recipes=["one.yaml"], credits=CREDITS)
    record_measured(weights, measured(weights))
    weights.write_bytes(b"other weights")
    found = read_record(weights)
    assert found is not None
    ((_, text),) = found.lines(digest=file_digest(weights))
    assert "other weights" in text
    with pytest.raises(ModelError, match=r"net.json: has no credits of these weights"):
        record_measured(weights, measured(weights))
    record_credits(weights, recipes=["one.yaml"], credits=CREDITS)
    found = read_record(weights)
    assert found is not None
    assert found.measured is None


@pytest.mark.parametrize("text", ["", "[]", '{"sha256": "x", "colour": 1}', '{"credits": [{"file": 1}]}'])
def test_records_that_are_none(text: str, weights: Path) -> None:
    assert read_record(weights) is None
    record_path(weights).write_text(text)
    with pytest.raises(ModelError, match=r"net.json: is no record"):
        read_record(weights)


def test_show_tells_what_the_record_says(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record_credits(weights, recipes=["one.yaml"], credits=CREDITS)
    record_measured(weights, measured(weights))
    monkeypatch.setattr(registry, "packaged_weights", lambda name: weights if name == "retinex" else None)
    assert run(["models", "show", "retinex"]) == 0
    said = capsys.readouterr().out
    for text in (file_digest(weights), "one.yaml", "1 under CC0-1.0", "PSNR 20", "streamlight evaluate table"):
        assert text in said
    assert run(["models", "show", "retinex", "--json"]) == 0
    sheet = json.loads(capsys.readouterr().out)
    assert sheet["weights"]["file"] == "net.safetensors"
    assert [credit["author"] for credit in sheet["record"]["credits"]] == ["Ann", "Bo"]


@pytest.mark.parametrize("name", [n for n in registry.names() if registry.packaged_weights(n) is not None])
def test_weights_in_the_package_have_their_credits(name: str) -> None:
    weights = registry.packaged_weights(name)
    assert weights is not None
    found = read_record(weights)
    assert found is not None
    assert found.sha256 == file_digest(weights)
    assert found.recipes
    assert all(credit.author and credit.licence and credit.source for credit in found.credits)
    assert not any(credit.file.startswith("val_real_pairs") for credit in found.credits)
