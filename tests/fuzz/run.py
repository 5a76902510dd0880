"""Run many fuzz cases: ``python -m tests.fuzz.run --cases 5000``.

A case that fails is named with its number; ``--only N --keep FOLDER`` repeats it and keeps the damaged file.
"""

from __future__ import annotations

import argparse
import collections
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.seeds import make_seeds
from tests.fuzz.worker import case_file

REPO = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds without a word from a worker that count as a hang; a case takes about a tenth of one."""


@dataclass
class Result:
    """What came of the cases: how many went which way, and everything that went wrong."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    loud: bool = False

    def fail(self, text: str) -> None:
        """Take note of a failure; a loud result prints it at once."""
        self.failures.append(text)
        if self.loud:
            print(text, flush=True)


def run_cases(
    seeds: Path,
    cases: int,
    *,
    seed: int = 1,
    first: int = 0,
    workers: int = 2,
    patience: float = PATIENCE,
    loud: bool = False,
) -> Result:
    """Run cases ``first`` … ``first + cases - 1``, spread over worker processes."""
    result, lock, begin = Result(loud=loud), threading.Lock(), time.monotonic()
    last = first + cases
    threads = [
        threading.Thread(target=_lane, args=(seeds, first + lane, last, workers, seed, patience, result, lock))
        for lane in range(min(workers, cases))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.seconds = time.monotonic() - begin
    return result


def _lane(
    seeds: Path, first: int, last: int, step: int, seed: int, patience: float, result: Result, lock: threading.Lock
) -> None:
    """Keep one worker process running until its cases are through; a crash or hang costs one case."""
    while first < last:
        command = [sys.executable, "-m", "tests.fuzz.worker", str(seeds), *map(str, (first, last, step, seed))]
        with subprocess.Popen(
            command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        ) as child:
            current, problem = _listen(child, patience, result, lock)
        if problem is None:
            return
        if current is None:
            with lock:
                result.fail(f"worker ended before its first case: {problem}")
            return
        with lock:
            result.fail(f"case {current}: {case_file(seeds, current, seed)[2]}: {problem}")
        first = current + step


def _listen(
    child: subprocess.Popen[str], patience: float, result: Result, lock: threading.Lock
) -> tuple[int | None, str | None]:
    """Read a worker's lines; returns the case at hand and the problem when it crashed or hung."""
    assert child.stdout is not None
    current: int | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(patience):
                child.kill()
                return current, f"no answer for {patience:.0f} s: a hang"
            line = child.stdout.readline()
            if not line:
                break
            word, number, rest = (line.rstrip("\n") + "  ").split(" ", 2)
            with lock:
                if word == "begin":
                    current = int(number)
                elif word == "ok":
                    result.outcomes[rest.split(" ", 1)[0]] += 1
                elif word == "bad":
                    result.fail(f"case {number}: {rest.strip()}")
    code = child.wait()
    return (None, None) if code == 0 else (current, f"the process died with exit code {code}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--keep", type=Path, help="folder for the damaged file of --only")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="streamlight-seeds-") as folder:
        seeds = Path(folder)
        make_seeds(seeds)
        if options.only is None:
            result = run_cases(seeds, options.cases, seed=options.seed, workers=options.workers, loud=True)
        else:
            if options.keep:
                name, data, done, _ = case_file(seeds, options.only, options.seed)
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{options.only}_{name}").write_bytes(data)
                print(done)
            result = run_cases(seeds, 1, seed=options.seed, first=options.only, workers=1, loud=True)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(result.outcomes.items()))
    print(f"{counts or 'nothing'}; {len(result.failures)} failed; {result.seconds:.0f} s")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
