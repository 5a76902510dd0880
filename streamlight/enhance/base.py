"""What every enhancer is to the pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch

from streamlight.engine.link import Link
from streamlight.enhance.resident import Resident
from streamlight.errors import ConfigError
from streamlight.media.frame import Frame
from streamlight.models.nn.kernels import given_up
from streamlight.models.protocol import GenerativeModel
from streamlight.temporal import StreamState


@dataclass(frozen=True, slots=True)
class EnhanceSettings:
    """What a user may set about the enhancement.

    Attributes:
        strength: 0 returns every frame untouched, 1 is the full effect.
        denoise: Share of the denoising that goes with the gain, 0 to 1 (guided mode).
        time_constant: Seconds over which exposure decisions are smoothed; 0 decides anew on each frame (guided mode).
        stability: How far the dark picture is averaged along the motion, and choices of the frame before are held, for
            models whose latent has positions, the generative ones; 0 is frame by frame, 1 the steadiest.
        working_size: Long side of the small copy, in pixels (guided mode).
        keyframe_interval: The model decides on every so many frames, and where its decision is out of date; in between
            the decision is carried along the motion (guided mode).
        keyframe_async: Whether frames go on with an old decision while the model works on a newer one, on a thread of
            its own (guided mode). The result then depends on timing.
        direct_limit: Largest frame, in pixels, that mode "auto" shows to a model on RGB pictures as a whole.
        seed: Seed of the noise that stochastic models start from; the same for every frame of a stream.
        workers: Threads for the kernels; None takes two, one on a machine with two cores.
    """

    strength: float = 1.0
    denoise: float = 1.0
    time_constant: float = 1.3
    stability: float = 0.5
    working_size: int = 480
    keyframe_interval: int = 1
    keyframe_async: bool = False
    direct_limit: int = 1280 * 720
    seed: int = 0
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("strength", 0, 1), ("denoise", 0, 1), ("time_constant", 0, 60), ("stability", 0, 1)):
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise ConfigError(f"{name} must be between {low} and {high}, got {value}")
        if self.working_size < 64:
            raise ConfigError(f"working_size must be at least 64 pixels, got {self.working_size}")
        if self.keyframe_interval < 1:
            raise ConfigError(f"keyframe_interval must be at least 1 frame, got {self.keyframe_interval}")
        if self.direct_limit < 0:
            raise ConfigError(f"direct_limit must be 0 pixels or more, got {self.direct_limit}")


class Enhancer(ABC):
    """Enhances frames of one or more streams; what it remembers lives in one :class:`StreamState` per stream.

    One thread at a time. ``timings`` adds up seconds per step since construction, of work on the host.

    Args:
        model: The model that decides.
        settings: What the user set.
        device: Where the model is; the CPU if None.

    Attributes:
        resident: Keeps frames on the device; None where that is the host.
        one_by_one: Whether frames of several streams no longer share a call, because memory did not suffice for it.
        stepped_down: What was given up because memory ran out, in words.
    """

    def __init__(
        self, model: GenerativeModel, settings: EnhanceSettings, *, device: torch.device | None = None
    ) -> None:
        self.model = model
        self.settings = settings
        self.device = device or torch.device("cpu")
        self.timings: defaultdict[str, float] = defaultdict(float)
        self.resident: Resident | None = None if self.device.type == "cpu" else Resident(self.device)
        self.one_by_one = False
        self.stepped_down: list[str] = []

    @property
    def link(self) -> Link | None:
        """The way to the device, for the stages around this one; None where frames are to come and go on the host.

        With it, frames may come with planes on the device and are handed on with such; planes that come on the host go
        back there, and the call waits for them.
        """
        return None if self.resident is None else self.resident.link

    @property
    def fallbacks(self) -> list[str]:
        """What works otherwise than it should on this machine, in words."""
        if self.resident is None:
            return list(self.stepped_down)
        graphs = sorted({f"no CUDA graph: {reason}" for reason in self.resident.graphs.refused.values()})
        return [*self.stepped_down, *graphs, *given_up()]

    def step_down(self, what: str) -> None:
        """Note what had to be given up because memory ran out, and let go of what only makes things faster."""
        if what not in self.stepped_down:
            self.stepped_down.append(what)
        if self.resident is not None:
            self.resident.make_room()

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the output besides the input; a resumed job compares it."""
        settings = asdict(self.settings)
        del settings["workers"]  # bands do not change a bit
        card = self.model.card
        return {"mode": type(self).__name__, "model": card.name, "revision": card.revision, **settings}

    @property
    def batches(self) -> bool:
        """Whether frames of several streams are shown to the model in one call, so that waiting for company pays."""
        return False

    def new_state(self) -> StreamState:
        """An empty memory for one stream."""
        return StreamState()

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """A copy of the state as arrays; :meth:`restore` continues from it bit-exactly."""
        return state.to_arrays() if self.resident is None else self.resident.to_arrays(state)

    def restore(self, arrays: dict[str, np.ndarray]) -> StreamState:
        """The state that :meth:`snapshot` saved."""
        state = StreamState.from_arrays(arrays)
        with nullcontext() if self.resident is None else self.resident.working():
            state.model_to(self.device)
        return state

    def adjusted(self, settings: EnhanceSettings) -> Self:
        """The same enhancer with other settings, for streams that go on: to step down under load and up again.

        Costs nothing: model, threads and timings are shared, and a :class:`StreamState` may pass from one to the other
        and back between two frames. Another working size begins anew only what has the wrong size. ``workers`` stays
        what it was. Closing one closes all.

        Args:
            settings: For example ``dataclasses.replace(enhancer.settings, working_size=320, keyframe_interval=4)``.
        """
        other = copy(self)
        other.settings = settings
        return other

    def close(self) -> None:  # noqa: B027 - only some have something to close
        """Release threads and memory."""

    @abstractmethod
    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """Replace the planes of ``frames`` by enhanced ones of the same size and type.

        Args:
            frames: Decoded frames, of one stream in order or of several streams; planes on the host, or where there is
                a :attr:`link` on its device.
            states: The state of each frame's stream; updated.

        Returns:
            The same frame objects.
        """
