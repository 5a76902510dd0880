from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from streamlight.engine import Pipeline, Stage
from streamlight.engine.link import DevicePlanes, Link
from streamlight.engine.streams import HostHardware, hardware_of
from streamlight.engine.timeline import Timeline
from streamlight.errors import DeviceError
from tests.engine.late import LateHardware


@dataclass
class Picture:
    planes: Any
    number: int = 0


def picture(number: int, *, size: tuple[int, int] = (12, 20), kind: type = np.uint8) -> Picture:
    rng = np.random.default_rng(number)
    top = 255 if kind is np.uint8 else 1023
    luma = rng.integers(0, top, size, kind)
    padded = rng.integers(0, top, (size[0] // 2, size[1] + 6), kind)
    chroma = padded[:, : size[1] // 2]  # rows with padding, as decoders give them
    return Picture((luma, chroma, chroma[::-1].copy()), number)


def pictures(count: int) -> Iterator[Picture]:
    return (picture(number) for number in range(count))


def invert(link: Link, hardware: LateHardware, items: Iterator[Picture]) -> Iterator[Picture]:
    """255 - x, asked for in the compute lane and done when the device comes to it."""
    for item in items:
        with link.computing(item.planes):
            results = [torch.zeros_like(plane) for plane in item.planes]
            for plane, result in zip(item.planes, results, strict=True):
                hardware.ask(lambda plane=plane, result=result: result.copy_(255 - plane))
            item.planes = link.computed(results)
        yield item


def run(hardware: LateHardware, *, count: int = 24, keep: bool = True, lent: int = 3) -> list[Picture]:
    link = Link(torch.device("cpu"), in_flight=2, lent=lent, hardware=hardware)
    found: list[Picture] = []

    def sink(items: Iterator[Picture]) -> Iterator[int]:
        for item in items:
            found.append(item if keep else Picture(tuple(plane.copy() for plane in item.planes), item.number))
            yield item.number

    stages = [
        Stage("upload", link.upload, 2),
        Stage("invert", lambda items: invert(link, hardware, items), 2),
        Stage("download", link.download, 2),
        Stage("sink", sink, 2),
    ]
    Pipeline(pictures(count), stages).run()
    return found


def wrong(found: list[Picture]) -> int:
    """How many pictures are not the inverse of what was sent."""
    count = 0
    for item in found:
        expected = picture(item.number).planes
        count += any(not np.array_equal(255 - a, b) for a, b in zip(expected, item.planes, strict=True))
    return count


@pytest.mark.parametrize("keep", [True, False])
def test_every_picture_arrives_whole_through_a_device_that_is_late(keep: bool) -> None:
    found = run(LateHardware(), keep=keep)
    assert [item.number for item in found] == list(range(24))
    assert wrong(found) == 0


def test_the_late_device_tells_a_missing_wait_between_lanes() -> None:
    assert wrong(run(LateHardware(hasty=True))) > 0


def test_the_late_device_tells_a_missing_wait_of_the_host() -> None:
    assert wrong(run(LateHardware(deaf=True))) > 0


def test_memory_on_the_host_has_a_bound_however_many_pictures_are_kept() -> None:
    hardware = LateHardware()
    found = run(hardware, count=60, lent=3)
    assert len(hardware.allocated) <= 2 + (2 + 3)
    assert wrong(found) == 0


def test_slots_come_back_when_pictures_are_let_go() -> None:
    link = Link(torch.device("cpu"), in_flight=1, lent=2, hardware=HostHardware(torch.device("cpu")))
    for number in range(10):
        (planes,) = link.to_host(link.to_device(picture(number).planes))
        view = planes[0][1:, 2:]
        del planes  # a view alone keeps the slot
        assert np.array_equal(view, picture(number).planes[0][1:, 2:])
        del view
    assert link.stats.copied_out == 0
    kept = [link.to_host(link.to_device(picture(number).planes))[0] for number in range(5)]
    assert link.stats.copied_out == 3
    assert all(np.array_equal(planes[1], picture(number).planes[1]) for number, planes in enumerate(kept))


def test_sixteen_bit_planes_other_sizes_and_what_is_on_the_host_anyway() -> None:
    link = Link(torch.device("cpu"))
    small, deep = picture(1), picture(2, size=(30, 44), kind=np.uint16)
    there = [link.to_device(item.planes) for item in (small, deep)]
    assert [plane.dtype for plane in there[1]] == [torch.uint16] * 3
    for item, planes in zip((small, deep), link.to_host(*there), strict=True):
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(item.planes, planes, strict=True))
    host = Picture(picture(3).planes, 3)
    assert [item.planes for item in link.download(iter([host]))] == [host.planes]


def test_planes_on_the_device_may_be_views() -> None:
    link = Link(torch.device("cpu"))
    whole = torch.arange(48, dtype=torch.uint8).view(4, 6, 2)
    ((blue, red),) = link.to_host(DevicePlanes((whole[..., 0], whole[..., 1])))
    assert np.array_equal(blue, whole[..., 0].numpy())
    assert np.array_equal(red, whole[..., 1].numpy())


@dataclass
class Surface:
    planes: tuple[torch.Tensor, ...]
    layout: str
    shift: int


@pytest.mark.parametrize("shift", [0, 6])
def test_surfaces_of_a_decoder_become_planes_with_the_value_in_the_low_bits(shift: int) -> None:
    link = Link(torch.device("cpu"))
    top = 255 if shift == 0 else 1023
    kind = torch.uint8 if shift == 0 else torch.uint16
    rng = np.random.default_rng(0)
    luma, chroma = (rng.integers(0, top, size) for size in ((8, 12), (4, 6, 2)))
    surface = Surface(tuple(torch.from_numpy(x << shift).to(kind) for x in (luma, chroma)), "p010", shift)
    ((y, u, v),) = link.to_host(link.to_device(surface))
    assert np.array_equal(y, luma)
    assert np.array_equal(u, chroma[..., 0])
    assert np.array_equal(v, chroma[..., 1])
    assert link.stats.surfaces == 1


def test_a_surface_is_held_until_it_has_been_copied() -> None:
    hardware = LateHardware()
    link = Link(torch.device("cpu"), hardware=hardware)
    surfaces = [Surface((torch.zeros(4, 4, dtype=torch.uint8),), "gray", 0) for _ in range(4)]
    for surface in surfaces:
        link.to_device(surface)
    assert len(link._surfaces) == 1
    assert hardware.waits == 3


def test_a_stage_that_fails_behind_the_download_leaves_the_link_usable() -> None:
    hardware = LateHardware()
    link = Link(torch.device("cpu"), in_flight=2, lent=0, hardware=hardware)

    def broken(items: Iterator[Picture]) -> Iterator[Picture]:
        for item in items:
            if item.number == 5:
                raise ValueError("no")
            yield item

    before = threading.active_count()
    for _ in range(4):  # each time two are under way when it ends
        stages = [Stage("upload", link.upload), Stage("download", link.download), Stage("broken", broken)]
        with pytest.raises(ValueError, match="no"):
            Pipeline(pictures(20), stages).run()
    assert threading.active_count() == before
    (planes,) = link.to_host(link.to_device(picture(7).planes))
    assert np.array_equal(planes[0], picture(7).planes[0])


def test_memory_of_a_picture_is_kept_for_the_lane_that_works_on_it_also_when_that_fails() -> None:
    hardware = LateHardware()
    link = Link(torch.device("cpu"), hardware=hardware)
    planes = link.to_device(picture(0).planes)
    with pytest.raises(ValueError, match="no"), link.computing(planes):
        raise ValueError("no")
    assert all(any(plane is kept for kept in hardware.kept) for plane in planes)


def test_lanes_note_their_work() -> None:
    link = Link(torch.device("cpu"))
    link.timeline = Timeline(link.base_mark)
    planes = link.to_device(picture(0).planes)
    with link.computing(planes):
        result = link.computed([plane + 1 for plane in planes])
    link.to_host(result)
    spans = link.timeline.spans()
    assert [span.lane for span in spans] == ["upload", "compute", "download"]
    assert all(0.0 <= span.begin <= span.end for span in spans)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="in_flight"):
        Link(torch.device("cpu"), in_flight=0)
    assert isinstance(hardware_of(torch.device("cpu")), HostHardware)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_planes_for_an_encoder_on_the_device_lie_as_it_reads_them(kind: type) -> None:
    hardware = LateHardware()
    link = Link(torch.device("cpu"), hardware=hardware)
    item = Item(DevicePlanes(torch.from_numpy(np.ascontiguousarray(x)) for x in picture(4, kind=kind).planes))
    (packed,) = link.pack(iter([item]))
    luma, chroma = packed.planes
    shift = 0 if kind is np.uint8 else 6
    y, u, v = (plane.astype(int) << shift for plane in picture(4, kind=kind).planes)
    assert np.array_equal(luma.numpy(), y)
    assert np.array_equal(chroma[..., 0].numpy(), u)
    assert np.array_equal(chroma[..., 1].numpy(), v)
    assert chroma.data_ptr() == luma.data_ptr() + luma.nbytes
    assert hasattr(packed.notes["ready"], "wait")


@dataclass
class Item:
    planes: Any
    notes: dict[str, Any] = field(default_factory=dict)


class Broken(LateHardware):
    """Raises what a card raises when something is copied."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "has no memory left for pictures on their way"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nhint"), r"failed \(CUDA error: unspec.* fail"),
    ],
)
def test_faults_of_a_device_are_told_as_such(error: Exception, says: str) -> None:
    link = Link(torch.device("cpu"), in_flight=1, lent=0, hardware=Broken(error))
    for _ in range(3):  # no slot is lost by it
        with pytest.raises(DeviceError, match=says) as caught:
            link.to_device(picture(0).planes)
        assert caught.value.__cause__ is error
        with pytest.raises(DeviceError, match=says):
            link.to_host(DevicePlanes((torch.zeros(4, 4, dtype=torch.uint8),)))
