"""The sample clips are what their README says, and their maker still makes them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


@pytest.fixture(scope="module")
def maker() -> Iterator[ModuleType]:
    """The maker's modules, importable as the command sees them."""
    sys.path.insert(0, str(SAMPLES))
    try:
        yield importlib.import_module("make_samples")
    finally:
        sys.path.remove(str(SAMPLES))


def decode(name: str, *, limit: int | None = None) -> list[av.VideoFrame]:
    with av.open(str(SAMPLES / name)) as container:
        frames = []
        for frame in container.decode(video=0):
            frames.append(frame)
            if len(frames) == limit:
                break
        return frames


def test_together_under_three_megabytes() -> None:
    assert sum(clip.stat().st_size for clip in SAMPLES.glob("*.mp4")) < 3_000_000


def test_yard_is_dark_and_steady() -> None:
    frames = decode("yard.mp4")
    assert len(frames) == 90
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {round(Fraction(1, 10) / frames[0].time_base)}
    means = [float(frame.to_ndarray(format="gray")[:540].mean()) for frame in frames[::10]]  # without the printed time
    assert max(means) < 40


def test_drive_has_what_the_readme_promises() -> None:
    with av.open(str(SAMPLES / "drive.mp4")) as container:
        assert [stream.type for stream in container.streams][:3] == ["video", "audio", "subtitle"]
        assert container.metadata["title"] == "Night drive"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["Lamps", "Oncoming cars"]
        first: dict[str, Fraction] = {}
        gaps = set()
        before = None
        for packet in sorted(
            (p for p in container.demux() if p.pts is not None), key=lambda p: (p.stream_index, p.pts)
        ):
            kind = packet.stream.type
            first.setdefault(kind, packet.pts * packet.time_base)
            if kind == "video":
                gaps.add(None if before is None else packet.pts - before)
                before = packet.pts
    assert len(gaps) > 100, "the frame rate varies from frame to frame"
    assert Fraction(1, 3) < first["audio"] - first["video"] < Fraction(1, 2)


def test_drive_is_what_its_maker_renders(maker: ModuleType) -> None:
    times = maker.phone_times(1)
    shown = decode("drive.mp4", limit=3)
    assert [frame.pts for frame in shown] == times[:3]
    scene, rng = maker.drive.Street(1), np.random.default_rng([1, 5])
    for frame, pts in zip(shown, times, strict=False):
        made = scene.picture(pts / maker.CLOCK, rng).astype(np.float64)
        read = frame.to_ndarray(format="rgb24").astype(np.float64)
        error = float(np.mean((made - read) ** 2))
        assert 10 * np.log10(255**2 / error) > 33, "another picture than the one in the clip"


def test_maker_needs_vtest_only_for_the_yard(
    maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_samples.py", "--out", str(tmp_path), "--vtest", str(tmp_path / "none.avi")])
    with pytest.raises(SystemExit) as caught:
        maker.main()
    assert caught.value.code == 2
    assert not list(tmp_path.iterdir())
