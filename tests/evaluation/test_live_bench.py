"""The live benchmark: its arithmetic on made-up runs, and one case for real."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from streamlight.cli import main
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.live_bench import LiveBench, bench_live
from streamlight.evaluation.live_fault_cases import faults
from streamlight.evaluation.live_load_cases import _growth
from streamlight.evaluation.live_process import Account, LiveProcess, Seen
from streamlight.evaluation.live_rows import (
    Row,
    backwards,
    camera_clip,
    causes,
    percentiles,
    rate_of,
    unaccounted,
)
from streamlight.evaluation.live_worker import usage
from streamlight.evaluation.machine import describe_machine
from tests.faults import needs_rtsp_server


def seen(*times: float, size: tuple[int, int] = (64, 48)) -> list[Seen]:
    return [Seen(at, round(at * 90_000), size, 0.01 * index) for index, at in enumerate(times)]


def test_live_again_is_the_first_frame_that_others_follow() -> None:
    account = Account(frames={"a": seen(1.0, 5.0, *np.arange(8.0, 10.0, 0.1))})
    assert account.alive_since("a", 0.5, rate=10) == 8.0
    assert account.alive_since("a", 8.55, rate=10) == pytest.approx(8.6)
    assert account.alive_since("a", 9.85, rate=10) == float("inf")
    assert account.alive_since("a", 0.5, rate=10, size=(1, 1)) == float("inf")
    assert account.alive_since("b", 0.5, rate=10) == float("inf")
    assert len(account.between("a", 5.0, 8.05)) == 2


def test_figures_of_frames() -> None:
    frames = seen(*np.arange(0.0, 10.1, 0.1))
    assert rate_of(frames) == pytest.approx(10)
    assert percentiles(frames) == pytest.approx({"p50": 500, "p95": 950, "p99": 990, "max": 1000})
    assert percentiles([])["p95"] == float("inf")
    assert backwards(frames) == 0
    assert backwards(seen(1, 2, 2, 1, 3)) == 2


def test_the_account_is_checked() -> None:
    camera = {"frames": {"in": 10, "out": 6, "waiting": 0}, "dropped": {"late": 1, "superseded": 2, "closed": 0}}
    assert unaccounted(camera) == 1
    assert causes(camera) == "1 late, 2 superseded"


def test_growth_is_end_over_warm() -> None:
    usage = [
        {
            "at": float(t),
            "memory": 100.0 if t < 30 else 200.0 + t,
            "children": 50.0,
            "threads": 5.0 + (t > 100),
            "files": 9,
        }
        for t in range(121)
    ]
    rows = {row.figure: row for row in _growth(usage, 0.0, 2.0)}
    assert rows["memory of the process, end over warm"].value == pytest.approx(310 / 233, rel=0.02)
    assert rows["memory of the process, end over warm"].met is False
    assert rows["memory of its publishers, end over warm"].met is True
    assert rows["more threads at the end"].value == 1
    assert rows["more descriptors at the end"].value == 0


def test_goals_and_the_table() -> None:
    rows = [
        Row("a", "slow", 3.0, "s", most=2.0),
        Row("a", "fast", 1.234, "s", most=2.0, note="of 3"),
        Row("b", "rate", 14.0, "fps", least=15.0),
        Row("b", "never", float("inf"), "s", most=1.0),
        Row("b", "count", 3),
    ]
    assert [row.met for row in rows] == [False, True, False, False, None]
    bench = LiveBench("streamlight bench live", describe_machine(), 0.5, "nice 3", rows)
    text = "\n".join(bench.lines())
    assert "load average at the beginning 0.5; nice 3" in text
    assert "a  slow       3 s  <= 2   NOT MET" in text
    assert "a  fast    1.23 s  <= 2   met      of 3" in text
    assert "never s" in text
    assert json.loads(json.dumps(bench.to_dict(), allow_nan=False))["rows"][3]["value"] is None


def test_usage_counts_this_process() -> None:
    first = usage()
    held = np.ones(20_000_000)
    with open("/dev/null"):
        second = usage()
    assert held.size
    assert second["memory"] - first["memory"] > 100e6
    assert second["files"] == first["files"] + 1
    assert second["threads"] >= 1


def test_wrong_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="unknown case flood; expected faults, latency"):
        bench_live(["flood"])
    with pytest.raises(ConfigError, match="minutes >="):
        bench_live(["soak"], minutes=0)
    with pytest.raises(MediaError, match="at least one camera"):
        LiveProcess([])
    with pytest.raises(SystemExit) as end:
        main(["bench", "live", "flood"])
    assert end.value.code == 2
    assert "unknown case flood" in capsys.readouterr().err


def test_the_clip_is_as_cameras_send(tmp_path: Path) -> None:
    path = camera_clip(tmp_path, (64, 48), seconds=2)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 60
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 30]
    assert all(packet.pts == packet.dts for packet in packets)


@needs_rtsp_server
def test_two_faults_for_real(tmp_path: Path) -> None:
    said: list[str] = []
    rows = faults(tmp_path, count=2, seed=3, progress=said.append, frozen=1.0)
    found = {row.figure: row for row in rows}
    assert len(said) == 2
    recoveries = [row for row in rows if row.most == 2.0]
    assert len(recoveries) == 2
    assert all(row.value < 20 for row in recoveries)
    assert found["frames not accounted for"].met
    assert found["timestamps handed over that go back"].met
    assert found["timestamps published that go back"].met
    assert found["recorded files that play"].met
