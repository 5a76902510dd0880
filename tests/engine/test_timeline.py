from __future__ import annotations

from itertools import pairwise

import pytest

from streamlight.engine.streams import HostLane, HostMark
from streamlight.engine.timeline import Span, Timeline, busy_seconds, hidden_share

SPANS = [Span("copy", 0, 0.0, 1.0), Span("work", 0, 0.5, 2.0), Span("work", 1, 1.5, 3.0), Span("copy", 1, 3.0, 4.0)]


def test_overlapping_spans_count_once() -> None:
    assert busy_seconds(SPANS, "work") == pytest.approx(2.5)
    assert busy_seconds(SPANS) == pytest.approx(4.0)
    assert busy_seconds([], "work") == 0.0


def test_share_that_is_hidden() -> None:
    assert hidden_share(SPANS, "copy", "work") == pytest.approx(0.25)
    assert hidden_share(SPANS, "work", "copy") == pytest.approx(0.2)
    assert hidden_share(SPANS, "nobody", "work") == 1.0


def test_host_and_device_share_an_axis_and_a_limit_holds() -> None:
    timeline = Timeline(HostMark, limit=2)
    for _ in range(3):
        with timeline.on_device("lane", HostLane()):
            pass
    assert list(timeline.each("decode", [1, 2])) == [1, 2]
    with timeline.on_host("encode"):
        pass
    spans = timeline.spans()
    assert [(span.lane, span.index) for span in spans] == [
        ("lane", 0), ("lane", 1), ("decode", 0), ("decode", 1), ("encode", 0)
    ]  # fmt: skip
    assert all(earlier.begin <= later.begin for earlier, later in pairwise(spans))
