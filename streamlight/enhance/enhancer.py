"""A video enhancer made of a model, the memory of a stream and the guided transfer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from streamlight.engine.rows import RowPool, available_cores
from streamlight.enhance.calm import calm_near_black
from streamlight.enhance.transfer import FrameGeometry, GuidedTransfer
from streamlight.errors import ConfigError, DeviceError, ModelError
from streamlight.media.frame import ColorSpec, Frame
from streamlight.models import load
from streamlight.models.protocol import Condition, GenerativeModel
from streamlight.temporal import (
    CODE,
    StreamState,
    blend_prior,
    coarse_luma,
    estimate_noise,
    is_cut,
    motion_gate,
)

_GAP: Final = 2.0
"""Seconds without a frame after which a stream is taken for a new scene."""

_LUMA_EPS: Final = (0.85 * CODE) ** 2
_CHROMA_EPS: Final = (1.7 * CODE) ** 2


@dataclass(frozen=True, slots=True)
class EnhanceSettings:
    """What a user may set about the enhancement.

    Attributes:
        strength: 0 returns every frame untouched, 1 is the full effect.
        denoise: Share of the denoising that goes with the gain, 0 to 1.
        time_constant: Seconds over which exposure decisions are smoothed; 0 decides anew on each frame.
        working_size: Long side of the small copy, in pixels.
        workers: Threads for the kernels; None takes the cores there are, at most 2.
    """

    strength: float = 1.0
    denoise: float = 1.0
    time_constant: float = 0.65
    working_size: int = 480
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("strength", 0, 1), ("denoise", 0, 1), ("time_constant", 0, 60)):
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise ConfigError(f"{name} must be between {low} and {high}, got {value}")
        if self.working_size < 64:
            raise ConfigError(f"working_size must be at least 64 pixels, got {self.working_size}")


def build_enhancer(
    model: str | GenerativeModel = "retinex", *, device: str = "cpu", settings: EnhanceSettings | None = None
) -> Enhancer:
    """Make an enhancer.

    Args:
        model: Name or weights file, as :func:`streamlight.load` takes it, or a loaded model.
        device: ``"auto"``, ``"cpu"``.
        settings: What the user set.

    Raises:
        ModelError: Unknown model.
        DeviceError: The device is not there, or not supported by this path.
        ConfigError: A setting is out of range.
    """
    if device not in ("auto", "cpu"):
        raise DeviceError(f"device {device!r} is not supported yet; use 'cpu' (or 'auto')")
    return Enhancer(load(model) if isinstance(model, str) else model, settings or EnhanceSettings())


class Enhancer:
    """Enhances frames of one or more streams; what it remembers lives in one :class:`StreamState` per stream.

    One thread at a time. ``timings`` adds up seconds per step since construction.

    Args:
        model: A model that decides on a small YCbCr copy.
        settings: What the user set.

    Raises:
        ModelError: The model works on full-resolution RGB, which this enhancer does not offer.
    """

    def __init__(self, model: GenerativeModel, settings: EnhanceSettings) -> None:
        if model.card.color != "ycbcr":
            raise ModelError(f"model {model.card.name!r} wants RGB pictures; the guided path decides on YCbCr copies")
        self.model = model
        self.settings = settings
        self.timings: defaultdict[str, float] = defaultdict(float)
        workers = settings.workers if settings.workers is not None else min(2, available_cores())
        self._rows = RowPool(workers)
        self._transfers: dict[tuple[int, int, ColorSpec], GuidedTransfer] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the output besides the input; a resumed job compares it."""
        card, settings = self.model.card, self.settings
        return {
            "model": card.name,
            "revision": card.revision,
            "strength": settings.strength,
            "denoise": settings.denoise,
            "time_constant": settings.time_constant,
            "working_size": settings.working_size,
        }

    def new_state(self) -> StreamState:
        """An empty memory for one stream."""
        return StreamState()

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """A copy of the state as arrays; :meth:`restore` continues from it bit-exactly."""
        return state.to_arrays()

    def restore(self, arrays: dict[str, np.ndarray]) -> StreamState:
        """The state that :meth:`snapshot` saved."""
        return StreamState.from_arrays(arrays)

    def close(self) -> None:
        """End the kernel threads."""
        self._rows.close()

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """Replace the planes of ``frames`` by enhanced ones of the same size and type.

        Args:
            frames: Decoded frames, of one stream in order or of several streams.
            states: The state of each frame's stream; updated.

        Returns:
            The same frame objects.
        """
        if self.settings.strength > 0.0:
            with _one_torch_thread():
                for frame, state in zip(frames, states, strict=True):
                    frame.planes = self._enhance(frame, state)
        return list(frames)

    @torch.inference_mode()
    def _enhance(self, frame: Frame, state: StreamState) -> tuple[np.ndarray, ...]:
        transfer = self._transfer(frame)
        clock = _Clock(self.timings)
        small = transfer.shrink(frame.planes)
        clock.lap("shrink")
        seconds = self._advance(frame, state, small)
        gate = self._filter(state, small)
        clock.lap("temporal")
        dark = state.small
        assert dark is not None
        calm = calm_near_black(dark, amount=self.settings.denoise)
        condition = self.model.condition(calm[None], noise=state.noise[None] if state.noise is not None else None)
        mean = self.model.prior(condition).mean
        state.prior = blend_prior(state.prior, mean, seconds=seconds, time_constant=self.settings.time_constant)
        bright = self._decode(state.prior, condition)
        clock.lap("model")
        amount = self._denoise_amount(dark, bright)
        noise = float(state.noise) if state.noise is not None else 0.0
        eps = max(amount, 1e-3)
        maps = transfer.fit(
            dark, bright, eps=(eps * (_LUMA_EPS + (3.0 * noise) ** 2), eps * (_CHROMA_EPS + (3.0 * noise) ** 2))
        )
        clock.lap("fit")
        if gate is None or not state.memory:
            state.memory = transfer.remember(frame.planes)
            planes = transfer.apply(frame.planes, maps)
        else:
            # Without gain there is no noise to hide, and the filter must not cost detail.
            gate = torch.lerp(torch.ones_like(gate), gate, amount)
            planes = transfer.filter_apply(
                frame.planes, maps, memory=state.memory, gate=gate, threshold=max(2.0, 8.0 * noise / CODE)
            )
        clock.lap("apply")
        state.age += 1
        return planes

    def _transfer(self, frame: Frame) -> GuidedTransfer:
        key = (frame.width, frame.height, frame.color)
        if key not in self._transfers:
            if len(self._transfers) >= 16:
                self._transfers.clear()
            geometry = FrameGeometry.of(*key, long_side=self.settings.working_size)
            self._transfers[key] = GuidedTransfer(geometry, self._rows)
        return self._transfers[key]

    def _advance(self, frame: Frame, state: StreamState, small: Tensor) -> float:
        """Reset the state where the scene is a new one; return the seconds since the frame before."""
        scene = coarse_luma(small[0])
        now = frame.seconds
        seconds = float(now - state.moment) if state.moment is not None else 0.0
        resized = state.small is not None and state.small.shape != small.shape
        if resized or not 0.0 <= seconds <= _GAP:
            state.reset()
        elif bool(is_cut(scene, state.scene)):
            state.reset()
            state.cuts += 1
        previous = state.scene
        state.noise = estimate_noise(small[0], state.raw_luma, before=state.noise)
        state.scene, state.raw_luma, state.moment = scene, small[0], now
        return seconds if previous is not None else 0.0

    def _filter(self, state: StreamState, small: Tensor) -> Tensor | None:
        """Filter the small copy over time; return the gate for the full-size planes (None on a first frame)."""
        if state.small is None or state.noise is None:
            state.small = small
            return None
        gate = motion_gate(small, state.small, state.noise)
        state.small = state.small + gate * (small - state.small)
        return gate

    def _decode(self, latent: Tensor, condition: Condition) -> Tensor:
        return self.model.decode(latent, condition, strength=self.settings.strength)[0]

    def _denoise_amount(self, dark: Tensor, bright: Tensor) -> float:
        """How much denoising the gain asks for, 0 to 1: full from a mean gain of 2.8 (1.5 stops) on."""
        gain = (bright[0].mean().clamp_min(0.0) + 1e-3) / (dark[0].mean().clamp_min(0.0) + 1e-3)  # below black: no NaN
        return self.settings.denoise * float((gain.log2() / 1.5).clamp(0.0, 1.0))


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Keep torch from spreading work on small tensors over OpenMP threads.

    Those wait for one another by spinning: on two busy cores that takes more from the decoder and the encoder than
    the second thread gives. The setting belongs to the calling thread and is put back for what else it does.
    """
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


class _Clock:
    """Adds the time between two laps to a table."""

    def __init__(self, table: defaultdict[str, float]) -> None:
        self._table = table
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._table[name] += now - self._last
        self._last = now
