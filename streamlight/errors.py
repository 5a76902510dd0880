"""The errors a user can meet. Few, typed, one clear sentence each.

Every message names the file, stream or key concerned, what was expected, and what to do about it. The command
line prints the message alone; ``--debug`` adds the traceback.
"""

from __future__ import annotations


class StreamlightError(Exception):
    """Base of every error that streamlight raises on purpose."""


class MediaError(StreamlightError):
    """A file or stream cannot be read or written: missing, damaged, unsupported, no space left."""


class ModelError(StreamlightError):
    """A model is unknown, its weights do not fit, or it cannot do what was asked."""


class ConfigError(StreamlightError):
    """A setting is unknown, out of range, or contradicts another (wrong use: exit code 2)."""


class DeviceError(StreamlightError):
    """A device or accelerated codec is absent, or failed while in use."""
