"""What a connection leaves behind: nothing that waits for the garbage collector, which seldom comes by in a service."""

from __future__ import annotations

import gc
from pathlib import Path

import av
import pytest

from streamlight.media.live import LiveOptions, LiveStream
from streamlight.media.tonemap import source_peak
from tests.clips import make_clip


@pytest.fixture
def no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_connection_that_is_over_leaves_no_cycle(tmp_path: Path, no_collection: None) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=8, sound=False)
    with av.open(str(clip)) as container:
        assert len(next(container.decode(video=0)).side_data) > 0  # or there would be nothing to see
    gc.collect()
    with LiveStream(LiveOptions(str(clip))) as stream:
        for packet in stream.packets():
            for decoded in stream.decode(packet):
                stream.frame(decoded, pts=0, time_base=stream.time_base, index=0)
                source_peak(decoded.picture)
        del packet, decoded
    del stream
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    left = [type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("av.")]
    gc.garbage.clear()
    assert left == []
