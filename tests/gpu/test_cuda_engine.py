"""The engine on a CUDA device: copies beside the work, nothing waits, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from streamlight.engine import DevicePlanes, Link, Pipeline, Stage, Timeline, across, graph_cache
from tests.engine.test_link import Picture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda", 0)


def picture(number: int) -> Picture:
    rng = np.random.default_rng(number)
    sizes = ((1080, 1920), (540, 960), (540, 960))
    return Picture(tuple(rng.integers(0, 255, size, np.uint8) for size in sizes), number)


def test_pictures_go_there_and_back_whole_while_the_card_is_busy() -> None:
    link = Link(CUDA, lent=2)
    link.timeline = Timeline(link.base_mark)
    busy = torch.randn(2048, 2048, device=CUDA)
    found: list[Picture] = []

    def invert(items: Iterator[Picture]) -> Iterator[Picture]:
        for item in items:
            assert isinstance(item.planes, DevicePlanes)
            with link.computing(item.planes):
                torch.cuda.set_sync_debug_mode("error")
                try:
                    for _ in range(8):
                        busy @ busy
                    item.planes = link.computed([255 - plane for plane in item.planes])
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            yield item

    def sink(items: Iterator[Picture]) -> Iterator[int]:
        for item in items:
            found.append(item)
            yield item.number

    stages = [*across(Stage("invert", invert), link), Stage("sink", sink)]
    Pipeline((picture(number) for number in range(40)), stages).run()
    assert [item.number for item in found] == list(range(40))
    for item in found:
        for before, after in zip(picture(item.number).planes, item.planes, strict=True):
            np.testing.assert_array_equal(255 - before, after)
    assert link.stats.copied_out == 38
    spans = link.timeline.spans()
    assert {span.lane for span in spans} == {"upload", "compute", "download"}


def test_a_graph_is_captured_beside_uploads_and_gives_what_the_function_gives() -> None:
    link, cache = Link(CUDA), graph_cache(CUDA)
    for number in range(8):
        planes = link.to_device(picture(number).planes)
        with link.computing(planes), torch.inference_mode():
            done = cache("double", lambda named: {"y": named["x"].to(torch.int16) * 2}, {"x": planes[0]})["y"]
        torch.cuda.synchronize()
        np.testing.assert_array_equal(done.cpu().numpy(), picture(number).planes[0].astype(np.int16) * 2)
    assert cache.refused == {}
    assert (cache.captured, cache.replayed) == (1, 6)


def test_what_cannot_be_captured_still_runs() -> None:
    link, cache = Link(CUDA), graph_cache(CUDA)
    for number in range(5):
        planes = link.to_device(picture(number).planes)
        with link.computing(planes):
            done = cache(
                "waits", lambda named: {"y": named["x"] * float(named["x"].float().mean() > 0)}, {"x": planes[0]}
            )
        torch.cuda.synchronize()
        assert done["y"].shape == (1080, 1920)
    assert len(cache.refused) == 1
