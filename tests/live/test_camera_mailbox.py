"""Mailbox: the newest frame waits, and every other one is counted with its cause."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest

from streamlight.live.mailbox import Mailbox
from streamlight.live.timeline import TIME_BASE
from streamlight.media import ColorSpec, Frame


def frame(index: int, *, age: float = 0.0) -> Frame:
    plane = np.zeros((2, 2), np.uint8)
    return Frame((plane, plane, plane), ColorSpec(), index, TIME_BASE, index=index, arrival=time.monotonic() - age)


def taken(mailbox: Mailbox) -> list[int]:
    found = []
    while (got := mailbox.take(0)) is not None:
        found.append(got.index)
    return found


def balanced(mailbox: Mailbox) -> bool:
    counts = mailbox.counts()
    return counts.frames_in == counts.frames_out + sum(counts.dropped.values()) + counts.waiting


def test_only_the_newest_waits() -> None:
    mailbox = Mailbox()
    for i in range(5):
        mailbox.put(frame(i))
        assert balanced(mailbox)
    assert taken(mailbox) == [4]
    counts = mailbox.counts()
    assert (counts.frames_in, counts.frames_out, counts.waiting) == (5, 1, 0)
    assert counts.dropped == {"superseded": 4}


def test_a_longer_queue_keeps_the_order() -> None:
    mailbox = Mailbox(3)
    for i in range(5):
        mailbox.put(frame(i))
    assert mailbox.counts().waiting == 3
    assert taken(mailbox) == [2, 3, 4]


def test_what_is_too_old_is_dropped_instead_of_taken() -> None:
    mailbox = Mailbox(3, max_age=0.5)
    for i, age in enumerate((2.0, 0.6, 0.0)):
        mailbox.put(frame(i, age=age))
    assert taken(mailbox) == [2]
    assert mailbox.counts().dropped == {"too_old": 2}


def test_take_waits_for_a_frame_and_no_longer_than_told() -> None:
    mailbox = Mailbox()
    assert mailbox.take(0.01) is None
    thread = threading.Timer(0.05, lambda: mailbox.put(frame(7)))
    thread.start()
    got = mailbox.take(10)
    thread.join()
    assert got is not None
    assert got.index == 7


def test_the_end_wakes_who_waits_and_leaves_what_is_there() -> None:
    mailbox = Mailbox()
    threading.Timer(0.05, mailbox.end).start()
    assert mailbox.take(None) is None
    assert mailbox.exhausted
    full = Mailbox()
    full.put(frame(0))
    full.end()
    assert not full.exhausted
    assert taken(full) == [0]


def test_close_counts_what_waits_and_what_still_comes() -> None:
    mailbox = Mailbox(2)
    for i in range(2):
        mailbox.put(frame(i))
    mailbox.close()
    mailbox.put(frame(2))
    assert taken(mailbox) == []
    assert mailbox.counts().dropped == {"closed": 3}
    assert balanced(mailbox)


def test_a_patient_mailbox_drops_nothing() -> None:
    mailbox = Mailbox(2, block=True)

    def fill() -> None:
        for i in range(50):
            mailbox.put(frame(i))
        mailbox.end()

    thread = threading.Thread(target=fill)
    thread.start()
    found = []
    while (got := mailbox.take(10)) is not None:
        found.append(got.index)
    thread.join(10)
    assert found == list(range(50))
    assert not mailbox.counts().dropped


def test_close_frees_who_waits_for_room() -> None:
    mailbox = Mailbox(1, block=True)
    mailbox.put(frame(0))
    thread = threading.Thread(target=mailbox.put, args=(frame(1),))
    thread.start()
    mailbox.close()
    thread.join(10)
    assert not thread.is_alive()
    assert mailbox.counts().dropped == {"closed": 2}


def test_one_event_serves_several() -> None:
    ready = threading.Event()
    first, second = Mailbox(ready=ready), Mailbox(ready=ready)
    second.put(frame(0))
    assert ready.is_set()
    ready.clear()
    first.end()
    assert ready.is_set()


@pytest.mark.parametrize("size", [1, 4])
def test_the_books_balance_at_every_moment_under_three_threads(size: int) -> None:
    mailbox = Mailbox(size, max_age=0.001)
    rng = random.Random(size)
    wrong: list[object] = []

    def fill() -> None:
        for i in range(3000):
            if rng.random() < 0.1:
                mailbox.refuse("damaged")
            else:
                mailbox.put(frame(i, age=rng.choice([0.0, 1.0])))
        mailbox.end()

    def watch() -> None:
        while not mailbox.exhausted:
            if not balanced(mailbox):
                wrong.append(mailbox.counts())

    threads = [threading.Thread(target=fill), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    out = 0
    while (got := mailbox.take(10)) is not None:
        out += got.arrival > 0
    for thread in threads:
        thread.join(20)
    counts = mailbox.counts()
    assert not wrong
    assert (counts.frames_in, counts.frames_out) == (3000, out)
    assert balanced(mailbox)
