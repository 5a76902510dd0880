"""Passwords on the command line are for us, not for everybody who lists processes."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_USERINFO = re.compile(rb"(?<=://)[^/?#\x00\s@]*(?:@[^/?#\x00\s@]*)*(?=@)")


def hide_credentials() -> bool:
    """Overwrite ``user:password`` in addresses among the arguments that the system shows for this process (Linux).

    There is a moment before, in which they can be seen; an address with ``${NAME}``, taken from the environment, has
    none.

    Returns:
        Whether there was something to hide and it was hidden.
    """
    if sys.platform != "linux" or not any(_USERINFO.search(os.fsencode(word)) for word in sys.argv):
        return False
    try:
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, numbers 48 and 49 in proc(5)
        shown = ctypes.string_at(begin, end - begin)
        if shown.rstrip(b"\0") != Path("/proc/self/cmdline").read_bytes().rstrip(b"\0"):
            return False
        hidden = _USERINFO.sub(lambda match: b"*" * len(match.group()), shown)
        ctypes.memmove(begin, hidden, len(hidden))
    except (OSError, ValueError, IndexError):
        return False
    return hidden != shown
