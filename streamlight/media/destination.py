"""Where results go: checks before the work, publishing in one step after it, and disk errors in plain words."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlight.errors import MediaError


def check_destination(
    source: str | os.PathLike[str] | None, destination: str | os.PathLike[str], *, overwrite: bool
) -> None:
    """Refuse a destination that cannot or must not be written, before any work is done.

    Args:
        source: The input file or folder, or ``None`` when it is no file (a network stream).
        destination: The output file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        MediaError: It is the input itself (also through links), it exists, it is a folder, its folder is missing or
            cannot be written.
    """
    target = Path(destination)
    if source is not None and same_file(Path(source), target):
        raise MediaError(f"{target}: input and output are the same file; choose another output name")
    if target.is_dir():
        raise MediaError(f"{target}: is a folder; give a file name")
    if not overwrite and os.path.lexists(target):
        raise MediaError(f"{target}: exists already; use --overwrite to replace it")
    folder = target.parent
    if not folder.is_dir():
        raise MediaError(f"{target}: the folder {folder} does not exist; create it first")
    _probe_writable(folder)


def _probe_writable(folder: Path) -> None:
    """Create a file without a name where the system can: permission bits do not tell about read-only mounts."""
    with disk_errors(folder / "probe"), tempfile.TemporaryFile(dir=folder, prefix=".streamlight-"):
        pass


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, through symbolic or hard links or another spelling."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def partial_path(destination: Path) -> Path:
    """The temporary name beside the destination: ``.<name>.part``. One per destination, so a restart reuses it."""
    return destination.with_name(f".{destination.name}.part")


def publish(partial: Path, destination: Path, *, overwrite: bool) -> None:
    """Give a finished file its name in one step; readers see all of it or nothing.

    Without ``overwrite`` a file that appeared under the name meanwhile is kept: the system is asked to rename only if
    the name is free, else a hard link does it. On file systems without either the check and the rename are two steps.

    Raises:
        MediaError: The name is taken, or the folder cannot be written.
    """
    with disk_errors(destination):
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if overwrite:
            os.replace(partial, destination)
        else:
            _rename_new(partial, destination)
        _sync_folder(destination.parent)


def _rename_new(partial: Path, destination: Path) -> None:
    taken = MediaError(f"{destination}: appeared while we worked; use --overwrite to replace it")
    try:
        if _rename_exclusive(partial, destination):
            return
        os.link(partial, destination)
    except FileExistsError as error:
        raise taken from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(destination):
            raise taken from error
        os.rename(partial, destination)
        return
    partial.unlink()


def _rename_exclusive(partial: Path, destination: Path) -> bool:
    """Linux's ``renameat2`` with RENAME_NOREPLACE: one step, nothing left over. False where it does not exist."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    here, no_replace = -100, 1  # AT_FDCWD, RENAME_NOREPLACE
    if renameat2(here, os.fsencode(partial), here, os.fsencode(destination), no_replace) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):  # a file system or kernel that does not know the flag
        return False
    raise OSError(number, os.strerror(number), str(destination))


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system syncs folders; the data is safe already
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear line that names the folder and what to do.

    PyAV raises the same subclasses of OSError for what libav reports.
    """
    try:
        yield
    except OSError as error:
        folder = path.parent
        if error.errno == errno.EFBIG:
            raise MediaError(
                f"{path.name} has become too large for {folder} (limit of the file system or of this user); "
                "choose another output folder, then run again"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MediaError(
                f"no space left while writing {path.name} in {folder} ({_free(folder)}); "
                "free some space there or choose another output folder, then run again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MediaError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
        raise MediaError(f"{path}: cannot be written ({error.strerror or error})") from error


def _free(folder: Path) -> str:
    try:
        stat = os.statvfs(folder)
    except OSError:
        return "free space unknown"
    return f"{stat.f_bavail * stat.f_frsize / 1e6:.0f} MB free"
