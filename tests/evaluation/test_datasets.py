"""Which pictures belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.datasets import dataset_pairs, find_pairs, folder_pairs


def touch(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("lol", ("eval15/low/1.png", "eval15/high/1.png", "our485/low/2.png", "our485/high/2.png")),
        ("lolv2-real", ("Real_captured/Test/Low/low00690.png", "Real_captured/Test/Normal/normal00690.png")),
        ("lolv2-syn", ("Synthetic/Test/Low/r000da54ft.png", "Synthetic/Test/Normal/r000da54ft.png")),
        (
            "velol",
            (
                "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Low_test/low00690.png",
                "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Normal_test/normal00690.png",
            ),
        ),
        ("velol", ("VE-LOL-L-Cap-Full/test/low/00690.png", "VE-LOL-L-Cap-Full/test/high/00690.png")),
    ],
)
def test_layouts(name: str, files: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *files)
    (pair,) = dataset_pairs(name, tmp_path)
    assert (pair.low, pair.reference) == (tmp_path / files[0], tmp_path / files[1])
    assert pair.name == Path(files[0]).stem


def test_a_table_says_what_belongs_to_the_set(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{side}/{name}.jpg" for side in ("low", "ref") for name in ("000", "001", "002")))
    (tmp_path / "pairs.csv").write_text("name,mean_luma_low\n002.jpg,0.11\n000.jpg,0.18\n")
    assert [pair.name for pair in dataset_pairs("sice-like", tmp_path)] == ["002", "000"]
    assert len(folder_pairs(tmp_path)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file\n0.jpg\n", "expected a column 'name'"),
        ("name\n", "expected a column 'name'"),
        ("name\n0.jpg\n1.jpg\n", r"low/1.jpg: is missing, pairs.csv names it in line 3"),
        ("name\n../0.jpg\n", r"line 2: '../0.jpg' is not the name of a file"),
        ("name\n0.jpg\n0.jpg\n", "line 3: 0.jpg is listed twice"),
        (None, "cannot read .*pairs.csv"),
    ],
)
def test_tables_that_do_not_fit(text: str | None, said: str, tmp_path: Path) -> None:
    touch(tmp_path, "low/0.jpg", "ref/0.jpg")
    if text is not None:
        (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(MediaError, match=said):
        dataset_pairs("sice-like", tmp_path)


def test_a_folder_of_pairs_in_natural_order_whatever_the_suffix(tmp_path: Path) -> None:
    names = ("Low/10.png", "Low/9.png", "Low/notes.txt", "Low/.hidden.png", "GT/9.jpg", "GT/10.png")
    pairs = folder_pairs(touch(tmp_path, *names))
    assert [pair.name for pair in pairs] == ["9", "10"]
    assert pairs[0].reference.name == "9.jpg"


def test_words_in_front_are_left_out_only_where_names_differ(tmp_path: Path) -> None:
    touch(tmp_path / "a", "low/low_1.png", "low/low_2.png", "high/reference-1.png", "high/reference-2.png")
    assert [pair.reference.stem for pair in folder_pairs(tmp_path / "a")] == ["reference-1", "reference-2"]
    touch(tmp_path / "b", "low/low1.png", "low/high1.png", "high/low1.png", "high/high1.png")
    assert all(pair.low.name == pair.reference.name for pair in folder_pairs(tmp_path / "b"))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("low/1.png", "high/1.png", "low/2.png"), r"low/2.png: has no partner in .*high; names"),
        (("low/1.png", "high/1.png", "high/3.png", "high/4.png"), r"high/3.png: has no partner in .*low \(2 of 3"),
        (("low/1.png", "low/1.jpg", "high/1.png"), r"low/1.jpg and 1.png would be one picture"),
        (("low/low1.png", "low/1.png", "high/1.png", "high/2.png"), r"would be one picture"),
        (("low/1.txt", "high/1.png"), r"low: holds no pictures"),
        (("low/1.png",), r"expected one folder of well-lit pictures .*there is none"),
        (("low/1.png", "high/1.png", "gt/1.png"), r"there are gt and high"),
    ],
)
def test_folders_that_do_not_match(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=said):
        folder_pairs(touch(tmp_path, *files))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nowhere: does not exist"):
        folder_pairs(tmp_path / "nowhere")
    with pytest.raises(MediaError, match="file: is no folder"):
        folder_pairs(touch(tmp_path, "file") / "file")
    with pytest.raises(MediaError, match="is no dataset 'lol', expected the folders eval15/low and eval15/high"):
        dataset_pairs("lol", tmp_path)


def test_how_to_ask(tmp_path: Path) -> None:
    for keywords in ({}, {"pairs": "x", "dataset": "lol"}):
        with pytest.raises(ConfigError, match="either --pairs DIR or --dataset NAME"):
            find_pairs(**keywords)
    with pytest.raises(ConfigError, match="--dataset lol needs --root"):
        find_pairs(dataset="lol")
    with pytest.raises(ConfigError, match="--root belongs to --dataset"):
        find_pairs(pairs="x", root="y")
    with pytest.raises(ConfigError, match="did you mean 'lolv2-real'"):
        find_pairs(dataset="lol-v2-real", root=tmp_path)
    root = touch(tmp_path / "mine", "low/1.png", "high/1.png")
    assert find_pairs(pairs=root)[0] == "mine"
