"""How the process deals with freed memory; a foundation that any room may import."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have the C library keep memory that is freed, for the rest of the process, instead of handing it back.

    A step of a training frees what the next one allocates again. Handing back hundreds of megabytes and having them
    cleared page by page takes glibc as long as computing small networks does.

    Returns:
        Whether it could be set: with glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # The second only takes up to 32 MB before glibc 2.35.
    done = bool(mallopt(_TRIM_THRESHOLD, _LARGEST))
    return done and (bool(mallopt(_MMAP_THRESHOLD, 2**30)) or bool(mallopt(_MMAP_THRESHOLD, 2**25)))
