"""The work folder of an unfinished job: segments, checkpoint, journal, and the lock that keeps a second run out.

``<output>.streamlight/`` lies beside the output, so that it is found again and is on the same disk. ``journal.jsonl``
is append-only; every line is on the disk before the next step begins, and what a line names was on the disk before it.
A kill at any moment therefore leaves a true journal, at most with half a line at its end, which is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamlight.errors import ConfigError, MediaError
from streamlight.media import EncoderPlan, SegmentInfo, disk_errors, verify_segment

FORMAT = 1
_OURS = re.compile(r"journal\.jsonl|lock|segment-\d+\.seg|checkpoint-\d+\.npz(\.tmp)?")


@dataclass(slots=True)
class UnfinishedJob:
    """What a journal says.

    Attributes:
        identity: What the job was started with: input, settings, model, versions.
        plan: The encoder plan, once there was a first frame.
        segments: Closed segments in order.
        index: Output index of the last frame done, -1 for none.
        damaged: Damaged frames among those done.
        checkpoint: File with the enhancer's state behind the last closed segment.
        complete: Whether all frames are done and only the join was missing.
        joining: ``[stat of the output before the join or None]`` once the join had begun.
    """

    identity: dict[str, Any]
    plan: EncoderPlan | None = None
    segments: list[SegmentInfo] = field(default_factory=list)
    index: int = -1
    damaged: int = 0
    checkpoint: Path | None = None
    complete: bool = False
    joining: list[Any] | None = None


class Journal:
    """The work folder of one output. Taken by :meth:`acquire`, given back by :meth:`release` or :meth:`remove`.

    Args:
        destination: The output file.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.folder = work_folder(destination)
        self._path = self.folder / "journal.jsonl"
        self._lock: int | None = None

    def acquire(self) -> None:
        """Create the folder if need be and lock it; the lock ends with the process, however that ends.

        Raises:
            MediaError: Another run holds it, or it cannot be created.
        """
        with disk_errors(self.folder):
            while self._lock is None:
                try:
                    self.folder.mkdir(exist_ok=True)
                except FileExistsError:
                    raise MediaError(
                        f"{self.folder}: is in the way; move it, the work folder must have this name"
                    ) from None
                self._try_lock()

    @property
    def held(self) -> bool:
        """Whether this object holds the work folder."""
        return self._lock is not None

    def _try_lock(self) -> None:
        path = self.folder / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            return  # the run before has just removed its folder: once more
        try:
            _lock_file(descriptor)
            # Locking a file that the run before has removed meanwhile would keep nobody out.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                self._lock, descriptor = descriptor, -1
        except FileNotFoundError:
            pass
        except BlockingIOError:
            owner = path.read_text("ascii", "replace").strip() if path.exists() else ""
            who = f" (process {owner})" if owner else ""
            raise MediaError(f"{self.destination}: another run{who} is writing it; wait for it or stop it") from None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def read(self) -> UnfinishedJob | None:
        """What is there to resume; None if nothing was begun. Half a line at the end is cut off.

        Raises:
            ConfigError: The journal is damaged or of another format.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        lines = content.split(b"\n")
        if lines[-1]:
            with disk_errors(self._path):
                os.truncate(self._path, len(content) - len(lines[-1]))
        try:
            records = [json.loads(line) for line in lines[:-1]]
            if not records:
                return None
            if records[0]["format"] != FORMAT:
                raise ConfigError(f"{self.folder}: was written by another version; use --overwrite to start again")
            job = UnfinishedJob(identity=records[0]["identity"])
            for record in records[1:]:
                self._replay(job, record)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._path} is damaged ({error}); use --overwrite to start again") from error
        return job

    def _replay(self, job: UnfinishedJob, record: dict[str, Any]) -> None:
        kind = record["record"]
        if kind == "plan":
            job.plan = EncoderPlan.from_json(record["plan"])
        elif kind == "segment":
            job.segments.append(SegmentInfo.from_json(record["segment"], self.folder))
            job.index, job.damaged = record["index"], record["damaged"]
            job.checkpoint = self.folder / record["checkpoint"] if record["checkpoint"] else None
        elif kind == "complete":
            job.complete = True
        elif kind == "joining":
            job.joining = [record["before"]]
        else:
            raise ValueError(f"unknown record {kind!r}")

    def begin(self, identity: dict[str, Any]) -> None:
        """Start a new job: whatever an earlier one left is removed first."""
        self.clear()
        self._append({"record": "job", "format": FORMAT, "identity": identity})

    def add_plan(self, plan: EncoderPlan) -> None:
        """Record the encoder plan, before the first segment."""
        self._append({"record": "plan", "plan": plan.to_json()})

    def segment_path(self, number: int) -> Path:
        """Where segment ``number`` goes."""
        return self.folder / f"segment-{number:06}.seg"

    def add_segment(
        self,
        number: int,
        segment: SegmentInfo,
        *,
        index: int,
        damaged: int,
        checkpoint: dict[str, np.ndarray] | None,
    ) -> None:
        """Record a closed segment and the state to go on from behind it.

        Args:
            number: Running number of the segment.
            segment: From the writer's ``close()``.
            index: Output index of its last frame.
            damaged: Damaged frames up to there.
            checkpoint: The enhancer's state behind that frame; None behind the last frame of the input.
        """
        name = f"checkpoint-{number:06}.npz" if checkpoint is not None else None
        if checkpoint is not None:
            self._save_arrays(self.folder / str(name), checkpoint)
        _sync_folder(self.folder)
        self._append(
            {
                "record": "segment",
                "segment": segment.to_json(),
                "index": index,
                "damaged": damaged,
                "checkpoint": name,
            }
        )
        for old in self.folder.glob("checkpoint-*.npz"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def _save_arrays(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        partial = path.with_name(path.name + ".tmp")
        with disk_errors(path):
            with open(partial, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)

    def mark_complete(self) -> None:
        """Record that every frame of the input is in a closed segment."""
        self._append({"record": "complete"})

    def mark_joining(self) -> None:
        """Record what lies under the output's name before the join may replace it."""
        self._append({"record": "joining", "before": file_stamp(self.destination)})

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, sort_keys=True).encode() + b"\n"
        with disk_errors(self._path), open(self._path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def clear(self) -> None:
        """Remove what a job left, the journal first so that no half-cleared folder can be resumed."""
        with disk_errors(self.folder):
            self._path.unlink(missing_ok=True)
            self._remove_files(keep=("lock",))

    def _remove_files(self, *, keep: tuple[str, ...]) -> None:
        for entry in self.folder.iterdir():
            if _OURS.fullmatch(entry.name) and entry.name not in keep:
                entry.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the whole folder and give up the lock. Files that are not ours stay, and the folder with them.

        The journal goes last: killed in between, the next run still reads there that the output is complete.
        """
        try:
            with disk_errors(self.folder):
                self._remove_files(keep=("lock", self._path.name))
                self._path.unlink(missing_ok=True)
            (self.folder / "lock").unlink(missing_ok=True)
            try:
                self.folder.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
        finally:
            self.release()

    def release(self) -> None:
        """Give up the lock; the folder stays for ``--resume``."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def work_folder(destination: Path) -> Path:
    """The work folder that belongs to an output."""
    return destination.with_name(destination.name + ".streamlight")


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint.

    Raises:
        MediaError: It is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise MediaError(f"checkpoint {path} cannot be read ({error}); use --overwrite to start again") from error


def check_segments(job: UnfinishedJob) -> None:
    """Make sure that what the journal names is there.

    Raises:
        MediaError: A segment is missing or was changed.
    """
    for segment in job.segments:
        if not verify_segment(segment):
            raise MediaError(f"{segment.path} is missing or damaged; use --overwrite to start again")


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two identities, each as ``"key: was X, is Y"``."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        was, now_is = before.get(key), now.get(key)
        if isinstance(was, dict) and isinstance(now_is, dict):
            found += differences(was, now_is, f"{prefix}{key} ")
        elif was != now_is:
            found.append(f"{prefix}{key}: was {was}, is {now_is}")
    return found


def file_stamp(path: Path) -> list[int] | None:
    """What changes when a file is replaced: ``[inode, size, mtime in ns]``; None if there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock_file(descriptor: int) -> None:
    """Lock without waiting.

    Raises:
        BlockingIOError: Somebody else holds it.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(str(error)) from error
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
