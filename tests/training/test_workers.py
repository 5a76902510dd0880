"""Processes beside the one that trains: they do the work, they say when they die, and they do not stay behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamlight.errors import StreamlightError
from streamlight.training.data.workers import in_order

REPO = Path(__file__).resolve().parents[2]


def slow_at_first(item: int) -> tuple[int, int]:
    time.sleep(0.3 if item == 0 else 0.0)
    return item, os.getpid()


def die_at_two(item: int) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_results_come_in_order_from_other_processes() -> None:
    found = list(itertools.islice(in_order(slow_at_first, itertools.count(), workers=2), 12))
    assert [item for item, _ in found] == list(range(12))
    assert os.getpid() not in {process for _, process in found}
    assert {process for _, process in in_order(slow_at_first, range(3), workers=1)} == {os.getpid()}


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(StreamlightError, match="a process that makes training pictures died"):
        list(in_order(die_at_two, range(20), workers=2))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_nobody_stays_behind_when_the_main_process_is_killed() -> None:
    program = (
        "import itertools\n"
        "from streamlight.training.data.workers import in_order\n"
        "from tests.training.test_workers import slow_at_first\n"
        "if __name__ == '__main__':\n"
        "    source = in_order(slow_at_first, itertools.count(), workers=2)\n"
        "    print(*{next(source)[1] for _ in range(50)}, flush=True)\n"
        "    input()\n"
    )
    main = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert main.stdout is not None
    workers = [int(word) for word in main.stdout.readline().split()]
    assert workers
    assert all(alive(worker) for worker in workers)
    main.kill()
    main.wait()
    deadline = time.monotonic() + 30
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
