"""Pictures to learn from: found, darkened, kept, and drawn; the same for any number of processes."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from streamlight.errors import ConfigError, MediaError
from streamlight.training.data.batches import Batches, Named
from streamlight.training.data.materials import Found, Material, find, read_picture, read_views, spread_frames
from streamlight.training.data.pairs import training_pairs
from streamlight.training.data.pool import open_pool, plan_jobs, pool_key
from streamlight.training.data.synthesis import make_pair
from streamlight.training.degradation import DegradationRanges
from streamlight.training.recipe import DataRecipe
from tests.clips import make_clip
from tests.training.toy import make_pictures

PURE = DegradationRanges(
    identity=0, uneven=0, lamps=0, blur=0, pedestal=0, noise=0, illuminant=0, stills=(("none", 1.0),), subsampled=0
)
"""Darkness and nothing else."""


def recipe(**changes: Any) -> DataRecipe:
    return DataRecipe(**{"photos": ("photos",), "size": (32, 40), "pool": 7, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_pictures(folder / "photos")
    make_pictures(folder / "photos" / "more", 2)
    (folder / "photos" / "notes.txt").write_text("no picture")
    panorama = np.random.default_rng(1).uniform(0.1, 4.0, (64, 128, 3)).astype(np.float32)
    (folder / "hdr").mkdir()
    assert cv2.imwrite(str(folder / "hdr" / "sky.hdr"), panorama)
    (folder / "clips").mkdir()
    make_clip(folder / "clips" / "walk.mp4", frames=23)
    for side, gain in (("low", 0.1), ("high", 1.0)):
        (folder / "pairs" / side).mkdir(parents=True)
        for index, (height, width) in enumerate(((40, 50), (48, 44), (36, 60))):
            picture = np.random.default_rng(index).integers(0, 255, (height, width, 3))
            assert cv2.imwrite(str(folder / "pairs" / side / f"{index}.png"), (picture * gain).astype(np.uint8))
    return folder


# -- finding and reading --------------------------------------------------------------------------------------------


def test_files_are_found_by_kind_and_left_out_by_name(root: Path) -> None:
    found = find(
        recipe(
            radiance=("hdr",),
            clips=("clips/walk.mp4",),
            pairs=("pairs",),
            exclude=("photos/more/*", "photos/03.png", "pairs/low/1.png", "photos/typo.png"),
        ),
        root,
    )
    names = [material.name for material in found.materials]
    assert names == [f"photos/0{n}.png" for n in (0, 1, 2, 4)] + ["hdr/sky.hdr", "clips/walk.mp4"]
    assert [material.views for material in found.materials[-2:]] == [4, 8]
    assert [pair.name for pair in found.pairs] == ["0", "2"]
    assert found.idle == ("photos/typo.png",)
    assert found.names(root)[-1] == "pairs/low/2.png"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"photos": ("photo",)}, "photo: does not exist; photographs are looked for below --data"),
        ({"photos": ("hdr",)}, "hdr: holds no photographs"),
        ({"exclude": ("*",)}, "data.exclude leaves none of 7"),
        ({"pairs": ("photos",)}, "expected one folder of dark pictures"),
    ],
)
def test_what_cannot_be_found_is_named(root: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MediaError, match=said):
        find(recipe(**changes), root)


def test_unusable_photographs_are_named_when_the_pool_is_made(root: Path, tmp_path: Path) -> None:
    def make(name: str, data: bytes) -> None:
        folder = tmp_path / name
        make_pictures(folder / "photos", 2)
        (folder / "photos" / name).write_bytes(data)
        open_pool(find(recipe(), folder), recipe(), seed=0, folder=tmp_path / "pool")

    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    with pytest.raises(MediaError, match=r"junk\.png"):
        make("junk.png", b"no picture at all")
    with pytest.raises(MediaError, match=r"cut\.jpg': is damaged"):
        make("cut.jpg", whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"dot\.png': is 1x1, expected at least 32x32"):
        make("dot.png", cv2.imencode(".png", noise[:1, :1])[1].tobytes())
    assert not list((tmp_path / "pool").rglob("pool.json"))


def test_frames_are_spread_over_a_clip_of_any_length(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "clips" / "walk.mp4"
    every = spread_frames(path, 100)
    assert len(every) == 23
    chosen = spread_frames(path, 4)
    places = [next(k for k, frame in enumerate(every) if np.array_equal(frame, one)) for one in chosen]
    assert len(chosen) == 4
    assert places == sorted(places)
    assert min(np.diff(places)) >= 4
    assert places[0] <= 6
    assert places[-1] >= 16
    small = spread_frames(path, 1, long_side=32)[0]
    assert max(small.shape[:2]) == 32
    views = list(read_views(Material("walk", path, "clip", 30)))
    assert len(views) == 30
    assert torch.equal(views[0], views[23])


# -- making a pair --------------------------------------------------------------------------------------------------


def test_a_pair_depends_on_seed_and_number_only(root: Path) -> None:
    image = read_picture(root / "photos" / "00.png")
    one = make_pair(image, recipe(), name="x", seed=1, index=4)
    torch.manual_seed(77)
    again = make_pair(image, recipe(), name="x", seed=1, index=4)
    for name in ("low", "target", "clean"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    others = [make_pair(image, recipe(), name="x", seed=s, index=i) for s, i in ((1, 5), (2, 4))]
    assert all(not np.array_equal(one.target, other.target) for other in others)
    assert one.low.shape == one.target.shape == one.clean.shape == (3, 32, 40)
    assert (one.low.dtype, one.clean.dtype) == (np.uint8, np.uint16)


def test_clean_is_the_dark_picture_without_what_the_camera_adds(root: Path) -> None:
    image = read_picture(root / "photos" / "01.png")
    for index in range(4):
        entry = make_pair(image, recipe(degradation=PURE), name="x", seed=0, index=index)
        assert np.abs(entry.clean / 65535 - entry.low / 255).max() <= 0.5 / 255 + 1e-4
    # With noise the two part, and the clean one does not move.
    noisy = make_pair(image, recipe(degradation=dataclasses.replace(PURE, noise=5)), name="x", seed=0, index=3)
    assert np.array_equal(noisy.clean, entry.clean)
    assert np.abs(noisy.low / 255 - noisy.clean / 65535).max() > 3 / 255


def test_crops_cover_what_was_asked_and_are_not_enlarged() -> None:
    ramp = torch.linspace(0, 1, 400)[None, None].expand(3, 300, 400).contiguous()

    fixed = dataclasses.replace(PURE, pull=0)
    settings = recipe(degradation=fixed, flips=False, permute_colours=0, aspect=0, coverage=(0.6, 0.6), size=(30, 40))
    for index in range(5):
        target = make_pair(ramp, settings, name="x", seed=0, index=index).target[0].astype(float) / 255
        covered = (target[:, -1].mean() - target[:, 0].mean()) * 40 / 39
        assert covered == pytest.approx(0.6, abs=0.03)
    # A picture of the size itself is taken whole, whatever the coverage.
    small = torch.nn.functional.interpolate(ramp[None], (30, 40), mode="area")[0]
    target = make_pair(small, settings, name="x", seed=0, index=1).target[0].astype(float) / 255
    assert target[:, -1].mean() - target[:, 0].mean() == pytest.approx(39 / 40, abs=0.02)


def test_colours_and_sides_change_as_often_as_asked(root: Path) -> None:
    red = torch.zeros(3, 60, 80)
    red[0, :, :40] = 0.8
    red[1:] = 0.1
    plain = {"degradation": PURE, "coverage": (1.0, 1.0), "aspect": 0}
    never = [
        make_pair(red, recipe(**plain, flips=False, permute_colours=0), name="x", seed=0, index=i) for i in range(8)
    ]
    assert all(e.target[0, :, :15].mean() > 2 * e.target[1, :, :15].mean() for e in never)
    often = [make_pair(red, recipe(**plain, permute_colours=1), name="x", seed=0, index=i).target for i in range(24)]
    strongest = {int(target.mean((1, 2)).argmax()) for target in often}
    left = {bool(target[..., :15].mean() > target[..., 25:].mean()) for target in often}
    assert strongest == {0, 1, 2}
    assert left == {True, False}


def test_panoramas_are_looked_into(root: Path) -> None:
    (material,) = find(recipe(photos=(), radiance=("hdr",)), root).materials
    picture = next(read_views(material))
    entry = make_pair(picture, recipe(), name="sky", seed=0, index=0, radiance=True)
    assert entry.target.shape == (3, 32, 40)
    assert 60 < entry.target.mean() < 200


# -- the pool -------------------------------------------------------------------------------------------------------


def test_a_pool_is_the_same_for_any_number_of_processes(root: Path, tmp_path: Path) -> None:
    settings = recipe(radiance=("hdr",), clips=("clips",), radiance_views=2, clip_frames=3, pool=20)
    found = find(settings, root)
    done: list[tuple[int, int]] = []
    alone = open_pool(found, settings, seed=3, folder=tmp_path / "a", tell=lambda *a: done.append(a))
    together = open_pool(found, settings, seed=3, folder=tmp_path / "b", workers=2)
    assert done == [(n, 20) for n in range(1, 21)]
    assert len(alone) == len(together) == 20
    assert alone.names == together.names
    for one, other in zip(alone, together, strict=True):
        for name in ("low", "target", "clean"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    # 12 pictures: each is used once before one is used again.
    used = [name.split(" (")[0] for name in alone.names]
    counts = {name: used[:12].count(name) for name in used}
    assert counts == {**{f"photos/0{n}.png": 1 for n in range(5)}, "photos/more/00.png": 1, "photos/more/01.png": 1,
                      "hdr/sky.hdr": 2, "clips/walk.mp4": 3}  # fmt: skip


def test_a_pool_is_made_once_and_anew_for_other_data(root: Path, tmp_path: Path) -> None:
    found = find(recipe(), root)
    pool = open_pool(found, recipe(), seed=0, folder=tmp_path)
    made: list[int] = []
    same = open_pool(found, recipe(crop=(8, 8)), seed=0, folder=tmp_path, tell=lambda *a: made.append(1))
    assert same.folder == pool.folder
    assert not made
    key = pool_key(found, recipe(), seed=0)
    assert key == pool.folder.name
    others = [
        pool_key(found, recipe(), seed=1),
        pool_key(found, recipe(size=(32, 48)), seed=0),
        pool_key(found, recipe(degradation=PURE), seed=0),
        pool_key(Found(found.materials[1:], ()), recipe(), seed=0),
    ]
    assert len({key, *others}) == 5


def test_an_unfinished_pool_is_made_again(root: Path, tmp_path: Path) -> None:
    found = find(recipe(), root)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pool(found, recipe(), seed=0, folder=tmp_path, tell=stop)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(open_pool(found, recipe(), seed=0, folder=tmp_path)) == 7


def test_a_damaged_pool_says_so(root: Path, tmp_path: Path) -> None:
    found = find(recipe(), root)
    pool = open_pool(found, recipe(), seed=0, folder=tmp_path)
    with open(pool.folder / "samples.bin", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(MediaError, match="the pool is incomplete; remove the folder"):
        open_pool(found, recipe(), seed=0, folder=tmp_path)


def test_jobs_hold_every_pair_once(root: Path) -> None:
    jobs = plan_jobs(find(recipe(pairs=("pairs",), pool=30), root), recipe(pairs=("pairs",), pool=30), seed=0)
    numbers = sorted(number for job in jobs for _, number in job.wanted)
    assert numbers == list(range(33))


# -- pairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "test"),
    [
        ("our485/low/1.png", "our485/high/1.png", "eval15"),
        ("Real_captured/Train/Low/low00001.png", "Real_captured/Train/Normal/normal00001.png", "Real_captured/Test"),
        ("Synthetic/Train/Low/a.png", "Synthetic/Train/Normal/a.png", "Synthetic/Test"),
        (
            "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Low_train/low1.png",
            "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Normal_train/normal1.png",
            "VE-LOL-L-Cap-Full/VE-LOL-L-Cap-Low_test",
        ),
        ("VE-LOL-L-Syn/train/low/1.png", "VE-LOL-L-Syn/train/high/1.png", "VE-LOL-L-Syn/test/low"),
        ("low/1.png", "high/1.png", "x"),
    ],
)
def test_training_halves(tmp_path: Path, low: str, high: str, test: str) -> None:
    for name in (low, high, f"{test}/low/9.png", f"{test}/high/9.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (pair,) = training_pairs(tmp_path)
    assert (pair.low, pair.reference) == (tmp_path / low, tmp_path / high)


def test_two_sets_in_one_folder_must_be_told_apart(tmp_path: Path) -> None:
    for half in ("Real_captured", "Synthetic"):
        for side in ("Low", "Normal"):
            (tmp_path / half / "Train" / side).mkdir(parents=True)
            (tmp_path / half / "Train" / side / "1.png").touch()
    with pytest.raises(MediaError, match="holds lolv2-real and lolv2-syn; name one of them"):
        training_pairs(tmp_path)
    assert len(training_pairs(tmp_path / "Synthetic" / "Train")) == 1


def test_pairs_come_as_they_are(root: Path, tmp_path: Path) -> None:
    settings = recipe(photos=(), pairs=("pairs",), crop=(16, 16), flips=False)
    pool = open_pool(find(settings, root), settings, seed=0, folder=tmp_path)
    assert pool.names == ["0", "1", "2"]
    low = cv2.imread(str(root / "pairs" / "low" / "1.png"))[:, :, ::-1].transpose(2, 0, 1)
    assert np.array_equal(pool[1].low, low)
    assert pool[1].clean is None


def test_a_pair_of_two_sizes_is_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "pairs", tmp_path / "pairs")
    shutil.copy(tmp_path / "pairs" / "low" / "0.png", tmp_path / "pairs" / "low" / "1.png")
    settings = recipe(photos=(), pairs=("pairs",))
    with pytest.raises(MediaError, match=r"low/1\.png is 50x40, but .*high/1\.png is 44x48"):
        open_pool(find(settings, tmp_path), settings, seed=0, folder=tmp_path / "pool")


# -- batches --------------------------------------------------------------------------------------------------------


def batches(root: Path, tmp_path: Path, settings: DataRecipe, **changes: Any) -> Batches:
    found = find(settings, root)
    pool = open_pool(found, settings, seed=0, folder=tmp_path)
    return Batches(found, pool, settings, **{"seed": 0, "size": 3, **changes})


def equal(one: Named, other: Named) -> bool:
    return one.names == other.names and all(torch.equal(one.batch[name], other.batch[name]) for name in one.batch)


def test_batches_follow_from_the_step(root: Path, tmp_path: Path) -> None:
    made = batches(root, tmp_path, recipe(crop=(16, 24)))
    every = [made[step] for step in range(9)]
    assert all(equal(a, b) for a, b in zip(made.from_step(4), every[4:], strict=False))
    assert not equal(every[0], every[1])
    for name in ("low", "target", "clean"):
        assert every[0].batch[name].shape == (3, 3, 16, 24)
        assert every[0].batch[name].dtype == torch.float32
    other = batches(root, tmp_path, recipe(crop=(16, 24)), seed=1)
    assert not equal(other[0], every[0])


def test_every_picture_is_seen_once_before_one_is_seen_again(root: Path, tmp_path: Path) -> None:
    made = batches(root, tmp_path, recipe())
    names = list(itertools.chain.from_iterable(made[step].names for step in range(14)))
    turns = [sorted(names[first : first + 7]) for first in range(0, 42, 7)]
    assert all(turn == turns[0] for turn in turns)
    assert len(set(turns[0])) == 7
    assert names[:7] != names[7:14]


def test_the_pictures_of_a_pair_stay_together(root: Path, tmp_path: Path) -> None:
    made = batches(root, tmp_path, recipe(degradation=PURE, crop=(16, 16), pool=12))
    for step in range(8):
        batch = made[step].batch
        assert (batch["clean"] - batch["low"]).abs().max() <= 0.5 / 255 + 1e-4
        # Darkening keeps the order of brightness within a channel.
        for low, target in zip(batch["clean"].flatten(0, 1), batch["target"].flatten(0, 1), strict=True):
            if target.std() > 0.02:
                assert np.corrcoef(low.flatten(), target.flatten())[0, 1] > 0.8


def test_fresh_pictures_come_in_order_from_any_number_of_processes(root: Path, tmp_path: Path) -> None:
    settings = recipe(pool=0, radiance=("hdr",))
    made = batches(root, tmp_path, settings, size=2)
    assert not list(tmp_path.iterdir())
    alone = [made[step] for step in range(2, 6)]
    source = made.from_step(2, workers=2)
    assert all(equal(next(source), one) for one in alone)
    source.close()
    first, again = made[0], made[made.epoch]
    assert not torch.equal(first.batch["low"], again.batch["low"])


def test_errors_of_processes_come_without_a_traceback(root: Path, tmp_path: Path) -> None:
    data = make_pictures(tmp_path / "photos", 3).parent
    made = batches(data, tmp_path, recipe(pool=0), size=3)
    (data / "photos" / "01.png").write_bytes(b"damaged since")
    with pytest.raises(MediaError, match=r"01\.png") as caught:
        next(made.from_step(0, workers=2))
    assert "\n" not in str(caught.value)


def test_sizes_that_do_not_fit_are_refused_at_the_start(root: Path, tmp_path: Path) -> None:
    pairs = {"photos": (), "pairs": ("pairs",)}
    with pytest.raises(ConfigError, match=r"the pairs differ in size: set data\.crop"):
        batches(root, tmp_path, recipe(**pairs))
    assert batches(root, tmp_path, recipe(**pairs), size=1)[0].batch["low"].shape[0] == 1
    with pytest.raises(ConfigError, match=r"data\.crop \[38, 38\] \(height, width\) is larger than '2', 36x60"):
        batches(root, tmp_path, recipe(**pairs, crop=(38, 38)))
    assert "clean" not in batches(root, tmp_path, recipe(**pairs, crop=(32, 32)))[0].batch
