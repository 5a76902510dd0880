"""Kills enhance_video again and again and resumes it; run as a program by test_resume.py.

Every attempt is a forked child, so that imports, kernels and weights are paid for once. A child dies by SIGKILL, either
at its N-th change to the file system (an audit hook sees every open for writing, rename, link, unlink and mkdir) or
after a random time.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from streamlight.pipelines.offline import enhance_video

from tests.clips import packets

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
OPTIONS = {"segment_frames": 5, "resume": True, "workers": 1}


def changes_files(event: str, args: tuple[object, ...]) -> bool:
    if event == "open":
        flags = args[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    return event in CHANGES


def child(source: Path, target: Path, *, at: int | None = None, after: float | None = None) -> int | None:
    """Run one attempt; returns its exit status, or None if it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            if at is not None:
                seen = 0

                def hook(event: str, args: tuple[object, ...]) -> None:
                    nonlocal seen
                    if changes_files(event, args) and str(target.parent) in " ".join(map(str, args)):
                        seen += 1
                        if seen == at:
                            os.kill(os.getpid(), signal.SIGKILL)

                sys.addaudithook(hook)
            report = enhance_video(source, target, **OPTIONS)
            os._exit(0 if report.status in ("done", "already-done") else 3)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(4)
    if after is not None:
        timer = threading.Timer(after, os.kill, (pid, signal.SIGKILL))
        timer.start()
    _, status = os.waitpid(pid, 0)
    if after is not None:
        timer.cancel()
        timer.join()
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def digest(path: Path) -> str:
    return hashlib.sha256(repr(packets(path)).encode()).hexdigest()


def check(target: Path, wanted: str, problems: list[str], label: str) -> None:
    """The finished output must be the uninterrupted one, with nothing beside it."""
    if digest(target) != wanted:
        problems.append(f"{label}: differs from the uninterrupted run")
    left = sorted(entry.name for entry in target.parent.iterdir() if entry.name != target.name)
    if left:
        problems.append(f"{label}: left behind {left}")
    target.unlink()


def main() -> None:
    source, folder, mode, count, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
    target = folder / f"out{source.suffix}"
    problems: list[str] = []
    torch.set_num_threads(1)  # a pool of OpenMP's would not outlive a fork
    enhance_video(source, target, **OPTIONS)
    target.unlink()
    begin = time.perf_counter()
    assert child(source, target) == 0
    elapsed = time.perf_counter() - begin
    wanted = digest(target)
    target.unlink()
    kills = runs = 0
    if mode == "events":
        # One job per change: killed at it, resumed to the end.
        for at in range(1, 10_000):
            status = child(source, target, at=at)
            if status is not None:
                check(target, wanted, problems, "last")
                break
            kills += 1
            status = child(source, target)
            if status != 0:
                problems.append(f"change {at}: resuming ended with {status}")
                break
            check(target, wanted, problems, f"change {at}")
            runs += 1
    else:
        rng = random.Random(seed)
        while kills < count:
            status = child(source, target, after=rng.uniform(0.05, 1.1) * elapsed)
            if status is None:
                kills += 1
            elif status == 0:
                check(target, wanted, problems, f"after {kills} kills")
                runs += 1
            else:
                problems.append(f"after {kills} kills: ended with {status}")
                break
        if child(source, target) == 0:
            check(target, wanted, problems, "end")
            runs += 1
    print(json.dumps({"kills": kills, "finished": runs, "problems": problems}))


if __name__ == "__main__":
    main()
