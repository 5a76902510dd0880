"""The live benchmark's faults: cameras and media servers that die, freeze, come back and change."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from streamlight.errors import MediaError
from streamlight.evaluation.live_process import LiveProcess
from streamlight.evaluation.live_rows import Progress, Row, backwards, camera_clip, causes, unaccounted
from streamlight.evaluation.live_server import RtspServer
from streamlight.media import open_source

SIZE, OTHER_SIZE = (640, 360), (480, 272)
KINDS = ("kill", "freeze", "restart", "size", "timestamps")
RATE = 30
FROZEN = 10.0
_PATIENCE = 30.0
_SETTLED = 1.5


class Faults:
    """One camera that is made to fail in known ways."""

    def __init__(self, server: RtspServer, folder: Path, generator: random.Random, *, frozen: float) -> None:
        self._server, self._generator, self._frozen = server, generator, frozen
        self._clips = {size: camera_clip(folder, size) for size in (SIZE, OTHER_SIZE)}
        self.size = SIZE

    def act(self, kind: str) -> float:
        """Make it fail and come back; returns when it was back, ``time.monotonic()``."""
        server = self._server
        match kind:
            case "kill":
                server.kill()
                time.sleep(self._generator.uniform(1.0, 6.0))
                server.start()
            case "freeze":
                server.freeze()
                time.sleep(self._frozen)
                server.thaw()
            case "restart":
                server.restart()
            case "size":
                self.size = OTHER_SIZE if self.size == SIZE else SIZE
                server.restart(source=self._clips[self.size])
            case "timestamps":
                server.jump()
            case other:
                raise ValueError(f"unknown fault {other!r}, expected one of {', '.join(KINDS)}")
        return time.monotonic()


def recovery(run: LiveProcess, camera: str, back: float, size: tuple[int, int], *, interrupted: bool) -> float:
    """Seconds from the moment a camera was back until it was live again; infinity if it did not come back.

    Args:
        run: Watches it.
        camera: Its name.
        back: When it was back.
        size: Size of its pictures from then on.
        interrupted: Whether its frames stopped; otherwise the longest gap in the three seconds since is the answer.
    """
    if not interrupted:
        time.sleep(max(back + 3.0 - time.monotonic(), 0.0))
        times = [back, *(f.at for f in run.account.between(camera, back, back + 3.0)), back + 3.0]
        return max(after - before for before, after in pairwise(times))
    try:
        run.wait_until(
            lambda: run.account.alive_since(camera, back, rate=RATE, size=size) < float("inf"), "recovery", _PATIENCE
        )
    except MediaError:
        return float("inf")
    return run.account.alive_since(camera, back, rate=RATE, size=size) - back


def faults(folder: Path, *, count: int, seed: int, progress: Progress, frozen: float = FROZEN) -> list[Row]:
    """``count`` faults of five kinds in random order, of a camera that is published and recorded meanwhile."""
    generator = random.Random(seed)
    order = [KINDS[i % len(KINDS)] for i in range(count)]
    generator.shuffle(order)
    kept, recorded = folder / "kept", folder / "recorded"
    for place in (kept, recorded):
        place.mkdir()
    found: dict[str, list[float]] = {}
    with (
        RtspServer(source=camera_clip(folder, SIZE), record=()) as camera,
        RtspServer(mounts=(), record=("enhanced",), record_to=kept) as media,
        LiveProcess([entry("gate", camera, to=media.url("enhanced"), record=recorded)]) as run,
    ):
        acts = Faults(camera, folder, generator, frozen=frozen)
        run.wait_for_frames("gate", 2 * RATE)
        media.wait_for(lambda status: status["record"]["enhanced"]["frames"] > 0)
        for number, kind in enumerate(order, 1):
            time.sleep(_SETTLED + generator.uniform(0.0, 1.0))
            back = acts.act(kind)
            took = recovery(run, "gate", back, acts.size, interrupted=kind != "timestamps")
            found.setdefault(kind, []).append(took)
            progress(f"fault {number} of {len(order)}: {kind}, live again after {took:.2f} s")
        published = media.status()["record"]["enhanced"]
        report, closing = run.stop()
        frames = run.account.frames["gate"]
    return [
        *_recoveries(found),
        Row("faults", "timestamps handed over that go back", backwards(frames), most=0),
        Row("faults", "timestamps published that go back", published["backwards"], most=0),
        *_recordings(recorded),
        *_account(report["cameras"][0]),
        Row("faults", "end after being told to", closing, "s", most=5.0),
    ]


def entry(name: str, camera: RtspServer, *, to: str | None = None, record: Path | None = None) -> dict[str, str]:
    """A camera as a live run takes it."""
    found = {"name": name, "url": camera.url()}
    if to is not None:
        found["to"] = to
    if record is not None:
        found["record"] = str(record)
    return found


def _recoveries(found: dict[str, list[float]]) -> list[Row]:
    rows = []
    for kind in KINDS:
        times = found.get(kind, [])
        if times:
            note = ", ".join(f"{seconds:.2f}" for seconds in times)
            what = "longest gap" if kind == "timestamps" else "slowest recovery"
            rows.append(Row("faults", f"{kind}: {what} of {len(times)}", max(times), "s", most=2.0, note=note))
    return rows


def _recordings(folder: Path) -> list[Row]:
    """Read every recorded file from end to end."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    bad, back, total = [], 0, 0
    for path in files:
        try:
            with open_source(path) as source:
                times = [frame.seconds for frame in source.frames()]
        except MediaError as error:
            bad.append(str(error))
            continue
        total += len(times)
        back += sum(after <= before for before, after in pairwise(times))
    note = "; ".join(bad) or f"{len(files)} files, {total} frames"
    return [
        Row("faults", "recorded files that play", len(files) - len(bad), least=max(len(files), 1), note=note),
        Row("faults", "recorded timestamps that go back", back, most=0),
    ]


def _account(camera: dict[str, Any]) -> list[Row]:
    frames = camera["frames"]
    note = f"{frames['in']} in, {frames['out']} out; dropped: {causes(camera)}; {camera['reconnects']} reconnects"
    return [Row("faults", "frames not accounted for", abs(unaccounted(camera)), most=0, note=note)]


def publish(folder: Path, *, away: float, progress: Progress) -> list[Row]:
    """The server published to is killed for a while; reading and detecting must not notice."""
    with (
        RtspServer(source=camera_clip(folder, SIZE), record=()) as camera,
        RtspServer(mounts=(), record=("enhanced",)) as media,
        LiveProcess([entry("gate", camera, to=media.url("enhanced"))], detect="motion") as run,
    ):
        run.wait_for_frames("gate", 3 * RATE)
        media.wait_for(lambda status: status["record"]["enhanced"]["frames"] > RATE)
        begin = time.monotonic()
        time.sleep(away / 2)
        killed = time.monotonic()
        media.kill()
        progress(f"publish: the server is away for {away:.0f} s")
        time.sleep(away)
        media.start()
        back = time.monotonic()
        resumed = _resumed(media, back)
        time.sleep(2.0)
        report, _ = run.stop()
        account = run.account
    before, during = (_pace(account.frames["gate"], a, b) for a, b in ((begin, killed), (killed, back)))
    looked = [_pace_of(account.looked.get("gate", []), a, b) for a, b in ((begin, killed), (killed, back))]
    gap = _longest_gap([f.at for f in account.between("gate", killed, back)], killed, back)
    delivery = report["cameras"][0]["delivery"][0]
    note = f"{delivery['written']} of {delivery['offered']} published, dropped: {dict(delivery['dropped'])}"
    return [
        Row("publish", "frames handed over while it is away, of before", during / before, least=0.9),
        Row("publish", "longest gap meanwhile", gap, "s", most=0.5),
        Row("publish", "pictures detected in while it is away, of before", looked[1] / max(looked[0], 1e-9), least=0.9),
        Row("publish", "published again after", resumed, "s", most=5.0, note=note),
        Row("publish", "frames not accounted for", abs(unaccounted(report["cameras"][0])), most=0),
        Row(
            "publish", "frames offered and neither published nor dropped",
            abs(delivery["offered"] - delivery["written"] - sum(delivery["dropped"].values())), most=0,
        ),
    ]  # fmt: skip


def _resumed(media: RtspServer, back: float) -> float:
    try:
        media.wait_for(lambda status: status["record"]["enhanced"]["frames"] > 0, timeout=_PATIENCE)
    except TimeoutError:
        return float("inf")
    return time.monotonic() - back


def _pace(frames: list[Any], begin: float, end: float) -> float:
    return _pace_of([frame.at for frame in frames], begin, end)


def _pace_of(times: list[float], begin: float, end: float) -> float:
    return sum(begin <= at < end for at in times) / (end - begin)


def _longest_gap(times: list[float], begin: float, end: float) -> float:
    marks = [begin, *times, end]
    return max(after - before for before, after in pairwise(marks))
