"""What is remembered of one stream between two of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from streamlight.temporal.arrays import below, to_arrays, to_tensors
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
        memory: Recursively filtered full-resolution planes (fixed point), one per plane: arrays on the host, tensors on
            a device.
        age: Frames since the last reset.
        cuts: Resets by scene cuts so far; where only a device knows, a 0-dim tensor of whole numbers.
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
    memory: list[Any] = field(default_factory=list)
    age: int = 0
    cuts: int | Tensor = 0

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
        self.average = None if self.average is None else self.average.to(device)

    def to(self, device: str | torch.device) -> StreamState:
        """Move everything to ``device`` and return this state.

        On the host the full-resolution memory is arrays, elsewhere tensors. Back to the host waits for the device.
        """
        device = torch.device(device)
        self.model_to(device)
        for name in _SINGLE:
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(device))
        self.key = {name: value.to(device) for name, value in self.key.items()}
        if device.type == "cpu":
            self.memory = [plane.cpu().numpy() if isinstance(plane, Tensor) else plane for plane in self.memory]
            self.cuts = int(self.cuts)
        else:
            planes = (plane if isinstance(plane, Tensor) else torch.from_numpy(plane) for plane in self.memory)
            self.memory = [plane.to(device) for plane in planes]
        return self

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; arrays and plain numbers are not among them."""
        found = {name: value for name in _SINGLE if (value := getattr(self, name)) is not None}
        if self.average is not None:
            found |= {f"average.{name}": value for name, value in self.average.tensors().items()}
        for name in ("carried", "key"):
            found |= {f"{name}.{part}": value for part, value in getattr(self, name).items()}
        found |= {f"memory.{i}": plane for i, plane in enumerate(self.memory) if isinstance(plane, Tensor)}
        if isinstance(self.cuts, Tensor):
            found["cuts"] = self.cuts
        return found

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> StreamState:
        """A state with these for its :meth:`tensors`, all of them; plain numbers and arrays are those of this one."""
        state = replace(self, **{name: tensors.get(name) for name in _SINGLE})  # type: ignore[arg-type]
        average = below("average", tensors)
        state.average = None
        if average:
            age = 1 if self.average is None else self.average.age
            state.average = Average(**average, age=age)
        state.carried, state.key = below("carried", tensors), below("key", tensors)
        planes = below("memory", tensors)
        if planes or any(isinstance(plane, Tensor) for plane in self.memory):
            state.memory = [planes[i] for i in sorted(planes, key=int)]
        state.cuts = tensors.get("cuts", self.cuts)
        return state

    def to_arrays(self) -> dict[str, np.ndarray]:
        """A copy as named arrays, enough to continue bit-exactly (for ``numpy.savez``); waits where a device is."""
        arrays = to_arrays({name: value for name, value in self.tensors().items() if not name.startswith("average.")})
        if self.average is not None:
            arrays |= {f"average.{name}": array for name, array in self.average.to_arrays().items()}
        arrays |= {f"memory.{i}": plane.copy() for i, plane in enumerate(self.memory) if isinstance(plane, np.ndarray)}
        for name, moment in (("moment", self.moment), ("key_moment", self.key_moment)):
            if moment is not None:
                arrays[name] = np.array([moment.numerator, moment.denominator], dtype=np.int64)
        if self.size is not None:
            arrays["size"] = np.asarray(self.size)
        return arrays | {"age": np.asarray(self.age), "cuts": np.asarray(int(self.cuts))}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], *, device: str | torch.device = "cpu") -> StreamState:
        """The inverse of :meth:`to_arrays`."""
        state = cls()
        for name, value in to_tensors({name: arrays[name] for name in _SINGLE if name in arrays}).items():
            setattr(state, name, value)
        if average := below("average", arrays):
            state.average = Average.from_arrays(average)
        state.carried, state.key = to_tensors(below("carried", arrays)), to_tensors(below("key", arrays))
        for name in ("moment", "key_moment"):
            if name in arrays:
                setattr(state, name, Fraction(*(int(part) for part in arrays[name])))
        if "size" in arrays:
            width, height = arrays["size"]
            state.size = (int(width), int(height))
        planes = below("memory", arrays)
        state.memory = [np.array(planes[key]) for key in sorted(planes, key=int)]
        state.age, state.cuts = int(arrays["age"]), int(arrays["cuts"])
        return state.to(device)


_SINGLE: Final = ("prior", "small", "noise", "scene", "raw_luma")
"""Names of the fields that are one tensor or none."""
