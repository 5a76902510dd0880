"""BoundedQueue: order, bounds, counted drops, and endings that wake every waiter."""

from __future__ import annotations

import threading

import pytest

from streamlight.engine import BoundedQueue, QueueAborted, QueueClosed


def in_thread(fn):
    """Run ``fn`` on a thread; returns a function that waits for its outcome (value or exception)."""
    outcome = []

    def body():
        try:
            outcome.append(fn())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=body)
    thread.start()

    def wait():
        thread.join(20)
        assert not thread.is_alive(), "still blocked"
        return outcome[0]

    return wait


def wait_until_blocked(condition):
    """Until a thread sleeps on the condition (its waiter list is the only way to see it without a clock)."""
    while not condition._waiters:
        threading.Event().wait(0.001)


def test_block_keeps_every_item_in_order_within_bounds():
    queue: BoundedQueue[int] = BoundedQueue(3)
    largest = 0

    def produce():
        for i in range(500):
            queue.put(i)
        queue.close()

    done = in_thread(produce)
    got = []
    while True:
        largest = max(largest, len(queue))
        try:
            got.append(queue.get())
        except QueueClosed:
            break
    assert done() is None
    assert got == list(range(500))
    assert largest <= 3
    assert queue.dropped == {}


def test_drop_oldest_counts_what_it_drops():
    queue: BoundedQueue[int] = BoundedQueue(2, "drop_oldest", cause="too slow")
    for i in range(10):
        queue.put(i)
    queue.close()
    assert [queue.get(), queue.get()] == [8, 9]
    assert queue.dropped == {"too slow": 8}
    with pytest.raises(QueueClosed):
        queue.get()


def test_close_wakes_a_waiting_getter():
    queue: BoundedQueue[int] = BoundedQueue(1)
    wait = in_thread(queue.get)
    wait_until_blocked(queue._filled)
    queue.close()
    assert isinstance(wait(), QueueClosed)


@pytest.mark.parametrize("full", [False, True])
def test_abort_wakes_getter_and_putter(full):
    queue: BoundedQueue[int] = BoundedQueue(1)
    if full:
        queue.put(0)
        wait = in_thread(lambda: queue.put(1))
        wait_until_blocked(queue._drained)
    else:
        wait = in_thread(queue.get)
        wait_until_blocked(queue._filled)
    queue.abort()
    assert isinstance(wait(), QueueAborted)
    assert len(queue) == 0
    with pytest.raises(QueueAborted):
        queue.put(2)


def test_put_after_close_is_a_mistake():
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.close()
    with pytest.raises(QueueClosed):
        queue.put(1)


@pytest.mark.parametrize(("size", "policy"), [(0, "block"), (-1, "block"), (1, "drop_newest")])
def test_bad_arguments(size, policy):
    with pytest.raises(ValueError, match=r"maxsize|policy"):
        BoundedQueue(size, policy)
