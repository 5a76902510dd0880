"""What is remembered of one stream between two of its frames."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamlight.temporal.average import Average


@dataclass(slots=True, weakref_slot=True, eq=False)
class StreamState:
    """Memory of one stream: bounded, serialisable, empty after :meth:`reset`. Two are never equal.

    Attributes:
        prior: Smoothed latent of a model that decides on the frame as a whole, ``(1, K)``.
        small: Temporally filtered small copy of the dark picture, ``(3, h, w)`` float32 YCbCr.
        noise: Standard deviation of the luma noise in the small copy, 0-dim.
        scene: Coarse luma of the previous frame, for the detection of cuts, ``(h, w)``.
        raw_luma: Luma of the previous frame's small copy before any filtering, ``(h, w)``.
        average: Of the dark picture along the motion, for models whose latent has positions.
        carried: What the model left for the next frame, by name.
        key: What is kept of the last key frame for the frames behind it, by name.
        key_moment: Presentation time of that key frame.
        size: Width and height of the previous frame.
        moment: Presentation time of the previous frame in seconds, exact.
        memory: Recursively filtered full-resolution planes (fixed point), one per plane.
        age: Frames since the last reset.
        cuts: Resets by scene cuts so far.
    """

    prior: Tensor | None = None
    small: Tensor | None = None
    noise: Tensor | None = None
    scene: Tensor | None = None
    raw_luma: Tensor | None = None
    average: Average | None = None
    carried: dict[str, Tensor] = field(default_factory=dict)
    key: dict[str, Tensor] = field(default_factory=dict)
    key_moment: Fraction | None = None
    size: tuple[int, int] | None = None
    moment: Fraction | None = None
    memory: list[np.ndarray] = field(default_factory=list)
    age: int = 0
    cuts: int = 0

    def reset(self) -> None:
        """Forget the picture, as after a cut, a reconnect or a long gap; the count of cuts stays."""
        self.prior = self.small = self.noise = self.scene = self.raw_luma = self.moment = None
        self.average = self.key_moment = self.size = None
        self.carried, self.key = {}, {}
        self.memory = []
        self.age = 0

    def model_to(self, device: str | torch.device) -> None:
        """Move what the model remembers to the device that the model is on; the rest stays where it is."""
        self.prior = None if self.prior is None else self.prior.to(device)
        self.carried = {name: value.to(device) for name, value in self.carried.items()}
        if self.average is not None:
            self.average = Average.from_arrays(self.average.to_arrays(), device=device)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """A copy as named arrays, enough to continue bit-exactly (for ``numpy.savez``)."""
        arrays: dict[str, np.ndarray] = {}
        for entry in fields(self):
            value: Any = getattr(self, entry.name)
            if isinstance(value, Tensor):
                arrays[entry.name] = value.detach().cpu().numpy().copy()
            elif isinstance(value, Average):
                arrays |= {f"{entry.name}.{key}": array for key, array in value.to_arrays().items()}
            elif isinstance(value, dict):
                arrays |= {f"{entry.name}.{key}": held.detach().cpu().numpy().copy() for key, held in value.items()}
            elif isinstance(value, list):
                arrays |= {f"{entry.name}.{i}": plane.copy() for i, plane in enumerate(value)}
            elif isinstance(value, Fraction):
                arrays[entry.name] = np.array([value.numerator, value.denominator], dtype=np.int64)
            elif value is not None:
                arrays[entry.name] = np.asarray(value)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], *, device: str | torch.device = "cpu") -> StreamState:
        """The inverse of :meth:`to_arrays`."""
        state = cls()
        for name in ("prior", "small", "noise", "scene", "raw_luma"):
            if name in arrays:
                setattr(state, name, torch.from_numpy(np.array(arrays[name])).to(device))
        if average := _below("average", arrays):
            state.average = Average.from_arrays(average, device=device)
        for name in ("carried", "key"):
            held = {key: torch.from_numpy(np.array(value)).to(device) for key, value in _below(name, arrays).items()}
            setattr(state, name, held)
        for name in ("moment", "key_moment"):
            if name in arrays:
                setattr(state, name, Fraction(*(int(part) for part in arrays[name])))
        if "size" in arrays:
            width, height = arrays["size"]
            state.size = (int(width), int(height))
        planes = _below("memory", arrays)
        state.memory = [np.array(planes[key]) for key in sorted(planes, key=int)]
        state.age, state.cuts = int(arrays["age"]), int(arrays["cuts"])
        return state


def _below(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Entries called ``name.…``, without that part."""
    return {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
