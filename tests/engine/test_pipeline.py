"""Pipeline: nothing lost, first error surfaces once, resources closed, no thread left."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from streamlight.engine import Pipeline, QueueAborted, Stage


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    # Threads for bands of rows are kept for the life of the process.
    assert [name for name in left if name.startswith("streamlight-") and "bands" not in name] == []


class Tracker:
    """Counts what stages opened and closed."""

    def __init__(self):
        self.opened: list[str] = []
        self.closed: list[str] = []

    def stage(self, name, fn=None, **queue):
        def run(items):
            self.opened.append(name)
            try:
                for item in items:
                    yield fn(item) if fn else item
            finally:
                self.closed.append(name)

        return Stage(name, run, **queue)

    def source(self, items):
        self.opened.append("source")
        try:
            yield from items
        finally:
            self.closed.append("source")

    def assert_all_closed(self):
        assert sorted(self.closed) == sorted(self.opened)


def collect(into):
    def run(items):
        for item in items:
            into.append(item)
            yield item

    return Stage("sink", run)


def test_items_pass_in_order_and_are_counted():
    got, track = [], Tracker()
    stats = Pipeline(
        track.source(range(200)), [track.stage("double", lambda x: 2 * x, queue_size=1), collect(got)]
    ).run()
    assert got == [2 * i for i in range(200)]
    assert [(s.name, s.items_in, s.items_out) for s in stats.stages] == [
        ("source", 0, 200),
        ("double", 200, 200),
        ("sink", 200, 200),
    ]
    assert stats.dropped == {}
    assert not stats.stopped
    track.assert_all_closed()


def test_stage_may_hold_items_back_and_flush():
    def reverse_pairs(items):
        held = None
        for item in items:
            if held is None:
                held = item
            else:
                yield item
                yield held
                held = None
        if held is not None:
            yield held

    got: list[int] = []
    Pipeline(range(5), [Stage("pairs", reverse_pairs), collect(got)]).run()
    assert got == [1, 0, 3, 2, 4]


@pytest.mark.parametrize("where", ["source", "first", "second", "sink"])
@pytest.mark.parametrize("when", [0, 7])
def test_first_error_stops_all_and_surfaces_once(where, when):
    track = Tracker()

    def fail_at(name):
        def fn(item):
            if name == where and item == when:
                raise OSError(f"{name} broke")
            return item

        return fn

    def endless():
        i = 0
        while True:
            yield fail_at("source")(i)
            i += 1

    stages = [track.stage(name, fail_at(name), queue_size=2) for name in ("first", "second", "sink")]
    with pytest.raises(OSError, match=f"^{where} broke$"):
        Pipeline(track.source(endless()), stages).run()
    track.assert_all_closed()


def test_error_while_flushing_and_error_while_closing():
    def flush_fails(items):
        try:
            yield from items
            raise OSError("flush")
        finally:
            pass

    def close_fails(items):
        try:
            yield from items
        except QueueAborted:
            raise RuntimeError("close") from None

    with pytest.raises(OSError, match="flush") as caught:
        Pipeline(range(3), [Stage("first", flush_fails), Stage("sink", close_fails)]).run()
    assert any("close" in note for note in caught.value.__notes__)


def test_error_in_one_stage_wakes_stages_blocked_both_ways():
    """The source waits for room, the sink waits for input; the middle fails."""
    blocked = threading.Event()

    def middle(items):
        next(items)
        blocked.wait(20)
        raise OSError("middle")
        yield

    def source():
        yield from range(3)  # one taken, queue of one full, the third waits
        yield 3

    pipeline = Pipeline(source(), [Stage("middle", middle, queue_size=1), Stage("sink", lambda items: items)])
    drained = pipeline._queues[0]._drained

    def watch():
        while not drained._waiters:
            time.sleep(0.001)
        blocked.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(OSError, match="middle"):
        pipeline.run()
    watcher.join()


def test_stop_finishes_what_is_under_way():
    stop, got = threading.Event(), []

    def endless():
        i = 0
        while True:
            if i == 10:
                stop.set()
            yield i
            i += 1

    stats = Pipeline(endless(), [Stage("work", lambda items: items), collect(got)], stop=stop).run()
    assert got == list(range(10))
    assert stats.stopped


def test_stop_after_the_last_item_is_a_normal_end():
    stop = threading.Event()

    def source():
        yield 1
        yield 2

    def sink(items):
        yield from items
        stop.set()

    assert not Pipeline(source(), [Stage("sink", sink)], stop=stop).run().stopped


def test_sink_may_end_early():
    def first_three(items):
        for item, _ in zip(items, range(3), strict=False):
            yield item

    track = Tracker()
    stats = Pipeline(track.source(iter(int, 1)), [track.stage("work"), Stage("sink", first_three)]).run()
    assert stats.stages[-1].items_out == 3
    track.assert_all_closed()


def test_drop_oldest_is_counted_per_queue():
    gate = threading.Event()

    def source():
        yield from range(50)
        gate.set()

    def slow(items):
        for item in items:
            gate.wait(20)
            yield item

    stats = Pipeline(source(), [Stage("sink", slow, queue_size=2, policy="drop_oldest")]).run()
    dropped = stats.dropped["queue before sink full"]
    assert dropped + stats.stages[-1].items_out == 50
    assert dropped >= 47


def test_interrupt_in_the_calling_thread_aborts():
    """What a second Ctrl-C does: KeyboardInterrupt lands in run(), the stages are aborted."""
    import _thread

    track = Tracker()

    def source():
        yield from range(20)
        _thread.interrupt_main()
        while True:
            yield 0

    with pytest.raises(KeyboardInterrupt):
        Pipeline(track.source(source()), [track.stage("work"), track.stage("sink")]).run()
    deadline = time.monotonic() + 10  # who interrupts does not wait for long; a busy machine closes a little later
    while len(track.closed) < len(track.opened) and time.monotonic() < deadline:
        time.sleep(0.01)
    track.assert_all_closed()


def test_memory_is_bounded_by_queue_sizes():
    """Items alive at once never exceed the queues plus one in each pair of hands."""

    class Item:
        pass

    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def source():
        nonlocal most
        for _ in range(300):
            item = Item()
            alive.add(item)
            most = max(most, len(alive))
            yield item
            del item

    def sink(items):
        for item in items:
            yield item
            del item

    gc.disable()  # references alone must free them
    try:
        Pipeline(source(), [Stage("work", sink, queue_size=3), Stage("sink", sink, queue_size=2)]).run()
    finally:
        gc.enable()
    assert most <= 3 + 2 + 3


def test_times_add_up_and_latency_is_measured():
    class Item:
        def __init__(self):
            self.arrival = time.monotonic()

    stats = Pipeline(
        (Item() for _ in range(30)), [Stage("work", lambda items: items), collect([])], arrival=lambda i: i.arrival
    ).run()
    assert stats.latency.count == 30
    assert 0 < stats.latency.percentile(50) <= stats.wall
    for stage in stats.stages:
        assert min(stage.busy, stage.wait_in, stage.wait_out) >= 0
        assert stage.busy + stage.wait_in + stage.wait_out <= stats.wall * 1.001


@pytest.mark.parametrize("stages", [[], [Stage("source", iter)], [Stage("a", iter), Stage("a", iter)]])
def test_bad_construction(stages):
    with pytest.raises(ValueError, match="stage"):
        Pipeline([], stages)
