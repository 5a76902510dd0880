"""Runs fuzz cases one after another in one process and says on stdout how each went.

``begin N`` before a case; then ``ok N <outcome>`` or ``bad N <what is wrong>``. A crash leaves a ``begin`` alone.
"""

from __future__ import annotations

import random
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

MEMORY = 12 << 30


def case_file(seeds: Path, number: int, seed: int) -> tuple[str, bytes, str, random.Random]:
    """The damaged file of a case: name, content, what was done, and the generator for what else is chosen."""
    from tests.fuzz.mutate import mutate

    rng = random.Random(f"{seed}/{number}")
    files = sorted(path for path in seeds.iterdir() if path.is_file())
    path = files[number % len(files)]
    data, done = mutate(path.read_bytes(), rng)
    return path.name, data, f"{path.name} {done}", rng


def run_case(seeds: Path, number: int, seed: int) -> str:
    """Run one case; returns what happened. Raises AssertionError when something is wrong."""
    import streamlight

    name, data, done, rng = case_file(seeds, number, seed)
    with TemporaryDirectory(prefix="streamlight-fuzz-") as folder:
        source, out = Path(folder, name), Path(folder, "out")
        source.write_bytes(data)
        out.mkdir()
        still = source.suffix in (".png", ".jpg")
        target = out / ("x.png" if still else "x" + rng.choice((".mp4", ".mkv")))
        options = {"encoder_preset": "ultrafast", "segment_frames": 4, "max_damaged": rng.choice((1, 20))}
        refusal = None
        try:
            report = streamlight.enhance_video(source, target, **({} if still else options))
        except streamlight.StreamlightError as error:
            refusal = str(error)
        if refusal is not None:
            left = sorted(path.relative_to(out).parts for path in out.rglob("*"))
            # What was written before the damage stays for --resume; nothing else may.
            work = {parts[0] for parts in left} <= {f"{target.name}.streamlight"}
            closed = any(parts[-1].endswith(".seg") for parts in left)
            assert not left or (work and closed), f"{done}: left behind after '{refusal}': {left}"
            assert refusal, f"{done}: an error without a message"
            assert "\n" not in refusal, f"{done}: the message is not one line: {refusal!r}"
            return f"refused ({done})"
        left = sorted(path.name for path in out.rglob("*"))
        assert left == [target.name], f"{done}: expected {target.name} alone, found {left}"
        if not still:
            check_output(target, report.frames["out"], done)
        return f"done ({done})"


def check_output(path: Path, frames: int, done: str) -> None:
    """The output decodes without an error and has as many frames as reported, in order (MKV knows milliseconds)."""
    import av

    with av.open(str(path)) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    assert len(pts) == frames, f"{done}: {frames} frames reported, {len(pts)} decoded"
    least = 0 if path.suffix == ".mkv" else 1
    assert all(b - a >= least for a, b in pairwise(pts)), f"{done}: timestamps do not increase: {pts}"


def main(seeds: str, first: int, last: int, step: int, seed: int) -> None:
    """Run cases ``first``, ``first + step`` … below ``last``."""
    import resource

    import av
    import torch

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # an absurd allocation is an error, not a dead machine
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    av.logging.set_level(None)
    for number in range(first, last, step):
        print("begin", number, flush=True)
        try:
            print("ok", number, run_case(Path(seeds), number, seed), flush=True)
        except AssertionError as error:
            print("bad", number, " ".join(str(error).split()), flush=True)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            done = case_file(Path(seeds), number, seed)[2]
            text = f"{done}: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"
            print("bad", number, " ".join(text.split()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
