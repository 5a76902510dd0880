from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.bench import run_bench, run_case
from streamlight.evaluation.scenes import SCENES, scene_frames, write_scene
from streamlight.media.clips import repeat_clip, write_clip
from streamlight.media.encode import EncodeSettings

FRAMES = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("bench") / "dark.mp4", "dark", frames=FRAMES, width=480, height=272)


@pytest.fixture(scope="module")
def result(clip: Path) -> dict[str, Any]:
    """One run of the command on a tiny clip."""
    command = [sys.executable, "-m", "streamlight", "bench", clip.name, "--preset", "realtime", "--repeat", "1"]
    done = subprocess.run(
        [*command, "--long", "3", "--json", "bench.json"], cwd=clip.parent, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    data: dict[str, Any] = json.loads((clip.parent / "bench.json").read_text(encoding="utf-8"))
    data["stdout"] = done.stdout
    return data


def test_every_case_is_measured(result: dict[str, Any]) -> None:
    (found,) = result["clips"]
    figures = {figure["case"]: figure for figure in found["figures"]}
    assert list(figures) == ["decode", "enhance", "encode", "end-to-end"]
    for figure in figures.values():
        assert figure["frames"] == FRAMES
        assert figure["fps"] * figure["ms"] == pytest.approx(1000)
        assert figure["peak_memory"] > 20 << 20
        assert figure["of_decode"] == pytest.approx(figure["fps"] / figures["decode"]["fps"])
    assert set(figures["end-to-end"]["steps_ms"]) == {"decode", "enhance", "encode"}
    assert sum(figures["enhance"]["steps_ms"].values()) == pytest.approx(figures["enhance"]["ms"], rel=0.5)
    assert figures["encode"]["about"]["preset"] == "ultrafast"


def test_overlap_compares_with_the_best_there_could_be(result: dict[str, Any]) -> None:
    figure = result["clips"][0]["figures"][-1]
    busiest = max(figure["steps_ms"].values())
    best = max(busiest, figure["core_ms"] / result["machine"]["cores"])
    assert figure["overlap"] == pytest.approx(figure["ms"] / best)
    assert figure["overlap"] >= 0.99


def test_memory_is_measured_on_a_longer_clip_too(result: dict[str, Any]) -> None:
    (found,) = result["clips"]
    assert found["long"] == 3
    assert found["growth"] == pytest.approx(found["long_peak_memory"] / found["figures"][-1]["peak_memory"])


def test_output_says_command_machine_and_versions(result: dict[str, Any]) -> None:
    out = result["stdout"]
    assert "$ streamlight bench dark.mp4 --preset realtime --repeat 1 --long 3" in out
    assert result["machine"]["cpu"] in out
    assert f"av {result['machine']['versions']['av']}" in out
    assert "dark.mp4: 480x272 h264, median of 1" in out


def test_wrong_use(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="repeat"):
        run_bench([clip], repeat=0)
    with pytest.raises(ConfigError, match="preset"):
        run_bench([clip], presets=["fastest"])
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        run_bench([text])
    with pytest.raises(MediaError, match=r"decode on text\.mp4 failed: .*text\.mp4"):
        run_case("decode", text, "default")


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_are_the_same_everywhere(scene: Any) -> None:
    first, again = (list(scene_frames(scene, frames=3, width=640, height=360)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        for left, right in zip(a.planes, b.planes, strict=True):
            np.testing.assert_array_equal(left, right)
    changed = float(np.mean(first[0].planes[0] != first[2].planes[0]))
    level = float(first[0].planes[0].mean())
    assert (level < 35) == (scene == "dark")
    assert changed > 0.3


def test_repeated_clip_is_one_stream_without_seams(clip: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    repeat_clip(clip, long, 3)
    with av.open(str(long)) as container:
        stream = container.streams.video[0]
        pts = sorted(int(p.pts) for p in container.demux(stream) if p.pts is not None)
        assert len(pts) == 3 * FRAMES
        assert len({b - a for a, b in pairwise(pts)}) == 1
        assert (pts[1] - pts[0]) * stream.time_base == Fraction(1, 30)
    with av.open(str(long)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3 * FRAMES


def test_a_clip_needs_frames(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no frame"):
        write_clip(tmp_path / "x.mp4", [], settings=EncodeSettings(), rate=Fraction(25))
