"""Command line: one file a command, no logic.

A module of this package whose name does not begin with an underscore is a command: it defines ``command``, a click
command, and imports what is heavy (torch, PyAV) inside the function, so that ``--help`` stays instant.
"""

from streamlight.cli._main import main

__all__ = ["main"]
