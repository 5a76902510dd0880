"""Guided mode: a model on a small copy, the memory of a stream, the transfer to full resolution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamlight.cores import available_cores
from streamlight.engine.link import Link
from streamlight.engine.rows import RowPool
from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.calm import calm_near_black
from streamlight.enhance.clock import Clock
from streamlight.enhance.color import rgb_from_ycbcr, ycbcr_from_rgb
from streamlight.enhance.decide import averages, decide, steady
from streamlight.enhance.keyframes import KeyResult, carry_key, is_due, keep_key, shadow_of, step_from_key
from streamlight.enhance.keyworker import KeyWorker
from streamlight.enhance.resident import Planes
from streamlight.enhance.together import decide_together, in_groups
from streamlight.enhance.transfer import AffineMaps, FrameGeometry, GuidedTransfer
from streamlight.enhance.transfer.device import DeviceTransfer
from streamlight.enhance.watch import Step, keep_time, look
from streamlight.errors import DeviceError
from streamlight.media.frame import ColorSpec, Frame
from streamlight.models.protocol import GenerativeModel
from streamlight.temporal import CODE, StreamState, motion_gate

_LUMA_STEP: Final = 0.85 * CODE
_CHROMA_STEP: Final = 1.7 * CODE

_LESS, _LEAST = 2.0 / 3.0, 128
"""Where memory runs out, the small copy gets smaller by this factor, down to a long side of this."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame's small copy.

    Attributes:
        dark: ``(3, h, w)`` normalised YCbCr.
        low: The same as the model sees it, ``(1, 3, h, w)``, on its device.
        color: Of the frame.
        step: From the frame before.
        gate: Weight of the frame against its memory, ``(h, w)``; None where nothing is remembered.
    """

    dark: Tensor
    low: Tensor
    color: ColorSpec
    step: Step
    gate: Tensor | None


class GuidedEnhancer(Enhancer):
    """The model decides on a small copy; the guided transfer carries it out on the full-resolution planes.

    A model that works on RGB pictures sees the small copy as RGB. One that samples starts every frame of a stream from
    the same noise, drawn from the seed: noise that changed from frame to frame would be flicker.

    On a device all of it happens there, for frames of several streams at once. Where memory runs out the frames are
    taken one by one, and then the small copy shrinks.

    Between key frames the model rests, and its last decision is carried along the motion; that and the transfer are
    then the host's work. With ``keyframe_async`` the model works on a thread of its own, always on the newest frame,
    and only the first frame of a scene waits for it; what it raises is raised by the next call for that stream, once.

    Args:
        model: Any model.
        settings: What the user set.
        device: Where the model is.
    """

    def __init__(
        self, model: GenerativeModel, settings: EnhanceSettings, *, device: torch.device | None = None
    ) -> None:
        super().__init__(model, settings, device=device)
        workers = settings.workers if settings.workers is not None else default_workers()
        self._rows = RowPool(workers)
        self._transfers: dict[object, GuidedTransfer | DeviceTransfer] = {}
        self._worker: KeyWorker[KeyResult] = KeyWorker()

    def close(self) -> None:
        """End the threads; a key frame that is under way is waited for."""
        self._worker.close()
        self._rows.close()

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """See :meth:`Enhancer.snapshot`; a key frame that is under way is waited for."""
        self._take(state, wait=True)
        return super().snapshot(state)

    @property
    def link(self) -> Link | None:
        """See :attr:`Enhancer.link`."""
        return super().link if self._decides_on_all else None

    @property
    def batches(self) -> bool:
        """See :attr:`Enhancer.batches`."""
        return self.link is not None and self.model.card.batches

    @property
    def _decides_on_all(self) -> bool:
        return self.settings.keyframe_interval == 1 and not self.settings.keyframe_async

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        if self.settings.strength > 0.0:
            if self.resident is not None and self._decides_on_all:
                in_groups(self, frames, states, self._on_device_or_smaller)
                return list(frames)
            with self._torch_threads():
                for frame, state in zip(frames, states, strict=True):
                    self._bring_home(state)
                    frame.planes = self._enhance(frame, state)
        return list(frames)

    def _torch_threads(self) -> AbstractContextManager[None]:
        # A network that is no matter of milliseconds is worth every core.
        return _one_torch_thread() if self.model.card.color == "ycbcr" else nullcontext()

    def _bring_home(self, state: StreamState) -> None:
        """What the host works with may be on the device still, where the stream was until now."""
        if self.resident is not None and state.small is not None and state.small.device.type != "cpu":
            with self.resident.working():
                state.to("cpu")
                state.model_to(self.device)

    def _on_device_or_smaller(self, frames: list[Frame], states: list[StreamState], seconds: list[float]) -> None:
        """:meth:`_on_device`; with a smaller small copy where memory does not suffice for a single frame."""
        while True:
            try:
                self._on_device(frames, states, seconds)
                return
            except torch.OutOfMemoryError as error:
                if len(frames) > 1:
                    raise
                self._shrink_or_raise(frames[0], error)

    def _shrink_or_raise(self, frame: Frame, error: BaseException) -> None:
        """A smaller small copy from now on; an error where it is small already."""
        before = size = self.settings.working_size
        cells = self._geometry(frame, before).width
        while self._geometry(frame, size).width == cells:  # cells are whole samples, so many sizes have the same copy
            size = int(size * _LESS) // 16 * 16
            if size < _LEAST:
                raise DeviceError(
                    f"{self.device} has not enough memory for model {self.model.card.name!r} at working size {before}; "
                    "use a smaller model, or --device cpu"
                ) from error
        self.step_down(f"working size {before} does not fit into the memory of {self.device}: {size} instead")
        self.settings = replace(self.settings, working_size=size)

    @torch.inference_mode()
    def _on_device(self, frames: list[Frame], states: list[StreamState], seconds: list[float]) -> None:
        assert self.resident is not None
        first = frames[0]
        transfer = self._transfer(first)
        assert isinstance(transfer, DeviceTransfer)
        color = first.color

        def work(planes: list[Planes], own: list[StreamState], steps: list[Tensor]) -> list[Planes]:
            views = [
                self._observe(transfer, each, state, step, color)
                for each, state, step in zip(planes, own, steps, strict=True)
            ]
            pictures = self._brighten_all(views, own)
            return [
                self._carry_out(transfer, each, state, seen, *self._fit(transfer, seen, bright, state)[:2])
                for each, state, seen, bright in zip(planes, own, views, pictures, strict=True)
            ]

        key = (self.settings, self.model.card.revision, first.width, first.height, color)
        self.resident.run(frames, states, seconds, work, key=key)

    @torch.inference_mode()
    def _enhance(self, frame: Frame, state: StreamState) -> tuple[np.ndarray, ...]:
        """A frame on the host."""
        transfer = self._transfer(frame)
        clock = Clock(self.timings)
        seconds = keep_time(state, frame)
        seen = self._observe(transfer, frame.planes, state, seconds, frame.color, clock)
        maps, amount = self._maps(transfer, seen, state, clock)
        planes = self._carry_out(transfer, frame.planes, state, seen, maps, amount)
        clock.lap("apply")
        state.age += 1
        return planes

    def _observe(
        self,
        transfer: Any,
        planes: Any,
        state: StreamState,
        seconds: float | Tensor,
        color: ColorSpec,
        clock: Clock | None = None,
    ) -> Seen:
        """The small copy, filtered over time, and what the model would see of it, also where the model rests."""
        clock = clock or Clock(defaultdict(float))
        small = transfer.shrink(planes)
        clock.lap("shrink")
        step = look(state, small[0], seconds)
        gate = self._filter(state, small, step)
        clock.lap("temporal")
        dark = state.small
        assert dark is not None
        low = calm_near_black(dark, amount=self.settings.denoise)
        if self.model.card.color == "rgb":
            low = rgb_from_ycbcr(low, color)
        low = low[None].to(self.device)
        low = steady(self.model, low, state, step.on(self.device), self.settings)
        clock.lap("steady")
        return Seen(dark, low, color, step, gate)

    def _carry_out(
        self, transfer: Any, planes: Any, state: StreamState, seen: Seen, maps: Any, amount: float | Tensor
    ) -> Any:
        """The full-size planes, filtered over time where there is a memory of them."""
        if seen.gate is None or not state.memory:
            state.memory = transfer.remember(planes)
            return transfer.apply(planes, maps)
        # Without gain there is no noise to hide, and the filter must not cost detail.
        gate = torch.lerp(torch.ones_like(seen.gate), seen.gate, amount)
        threshold = _at_least(8.0 * _known(seen.step.noise) / CODE, 2.0)
        return transfer.filter_apply(planes, maps, memory=state.memory, gate=gate, threshold=threshold)

    def _maps(self, transfer: GuidedTransfer, seen: Seen, state: StreamState, clock: Clock) -> tuple[AffineMaps, float]:
        """The maps of a frame, decided or carried, and how much denoising they ask for."""
        settings = self.settings
        self._take(state, wait=not settings.keyframe_async)
        since = step_from_key(state, seen.step)
        if self._decides_on_all or is_due(state.key, since, age=state.age, interval=settings.keyframe_interval):
            if not settings.keyframe_async:
                maps, amount, key = self._decide(transfer, seen, state, since, clock, keep=not self._decides_on_all)
                state.key, state.key_moment = key, state.moment if key else None
                return maps, amount
            if self._ask(transfer, seen, state, since):
                since = step_from_key(state, seen.step)
        motion = since.motion
        clock.lap("motion")
        maps = carry_key(state.key, transfer, dark=seen.dark, guide=self._guide(seen), motion=motion)
        clock.lap("carry")
        return maps, float(state.key["amount"])

    def _ask(self, transfer: GuidedTransfer, seen: Seen, state: StreamState, step: Step) -> bool:
        """Have the worker decide on this frame, if it is free; True if, the first of a scene, it was waited for."""
        first = not state.key
        if first:
            self._worker.forget(state)
        shadow, base = shadow_of(state), state.key

        @torch.inference_mode()
        def work() -> KeyResult:
            with self._torch_threads():
                clock = Clock(defaultdict(float))
                _, _, key = self._decide(transfer, seen, shadow, step, clock, keep=True)
            return KeyResult(shadow, key, base)

        self._worker.submit(state, work)
        if first:
            self._take(state, wait=True)
        return first

    def _take(self, state: StreamState, *, wait: bool) -> None:
        """Take up what the worker has decided, unless the stream has begun anew since."""
        result = self._worker.take(state, wait=wait)
        if result is not None and result.base is state.key:
            result.hand_over(state)

    def _decide(
        self, transfer: GuidedTransfer, seen: Seen, state: StreamState, step: Step, clock: Clock, *, keep: bool
    ) -> tuple[AffineMaps, float, dict[str, Tensor]]:
        """Ask the model and fit the maps; with ``keep`` also what the frames behind a key frame need."""
        bright = self._brighten(seen, state, step)
        clock.lap("model")
        maps, amount, eps = self._fit(transfer, seen, bright, state)
        key = {}
        if keep:
            key = keep_key(state, transfer, dark=seen.dark, guide=self._guide(seen), bright=bright, maps=maps, eps=eps)
            key["amount"] = torch.tensor(amount, dtype=torch.float64)
        clock.lap("fit")
        return maps, amount, key

    def _fit(self, transfer: Any, seen: Seen, bright: Tensor, state: StreamState) -> tuple[Any, Any, tuple[Any, Any]]:
        """Maps from the dark small copy to the bright one, how much denoising the gain asks for, and their ``eps``."""
        amount = self.settings.denoise * _known(_gain_share(seen.dark, bright))
        noise = 0.0 if state.noise is None else _known(state.noise)
        luma_eps, chroma_eps = transfer_eps(noise, denoised=self.model.card.denoises)
        share = _at_least(amount, 1e-3)
        eps = (share * luma_eps, share * chroma_eps)
        return transfer.fit(seen.dark, bright, eps=eps), amount, eps

    def _transfer(self, frame: Frame) -> Any:
        size = self.settings.working_size
        key = (size, frame.width, frame.height, frame.color, self.link is None)
        if key not in self._transfers:
            if len(self._transfers) >= 16:
                self._transfers.clear()
            geometry = self._geometry(frame, size)
            host = self.link is None
            self._transfers[key] = GuidedTransfer(geometry, self._rows) if host else DeviceTransfer(geometry)
        return self._transfers[key]

    def _geometry(self, frame: Frame, size: int) -> FrameGeometry:
        return FrameGeometry.of(frame.width, frame.height, frame.color, long_side=size)

    def _filter(self, state: StreamState, small: Tensor, step: Step) -> Tensor | None:
        """Filter the small copy over time; return the gate for the full-size planes (None on a first frame)."""
        if state.small is None or state.noise is None:
            state.small = small
            return None
        gate = motion_gate(small, state.small, state.noise, fresh=step.fresh)
        state.small = torch.lerp(state.small, small, gate)
        return gate

    def _guide(self, seen: Seen) -> Tensor:
        """The small copy as calm over time as the model saw it, ``(3, h, w)`` normalised YCbCr."""
        return self._ycbcr(seen.low, seen) if averages(self.model, self.settings) else seen.dark

    def _brighten(self, seen: Seen, state: StreamState, step: Step) -> Tensor:
        """What the small copy becomes, ``(3, h, w)`` normalised YCbCr."""
        noise = state.noise[None].to(self.device) if state.noise is not None else None
        picture = decide(self.model, seen.low, state, step.on(self.device), self.settings, noise=noise)
        return self._ycbcr(picture, seen)

    def _brighten_all(self, seen: Sequence[Seen], states: Sequence[StreamState]) -> list[Tensor]:
        """:meth:`_brighten` for frames of several streams, in one call of the model."""
        if len(seen) == 1:
            return [self._brighten(seen[0], states[0], seen[0].step)]
        noises = [state.noise[None] for state in states if state.noise is not None]
        pictures = decide_together(
            self.model, [one.low for one in seen], states, [one.step for one in seen], self.settings, noises=noises
        )
        return [self._ycbcr(picture, one) for picture, one in zip(pictures, seen, strict=True)]

    def _ycbcr(self, picture: Tensor, seen: Seen) -> Tensor:
        """A picture of the model's, ``(1, 3, h, w)``, for the transfer, where that is done."""
        one = picture[0].to(seen.dark.device)
        return ycbcr_from_rgb(one, seen.color) if self.model.card.color == "rgb" else one


def _known(value: float | Tensor) -> float | Tensor:
    """A number where the host can look at it without waiting."""
    return float(value) if isinstance(value, Tensor) and value.device.type == "cpu" else value


def _at_least(value: float | Tensor, least: float) -> float | Tensor:
    return value.clamp_min(least) if isinstance(value, Tensor) else max(value, least)


def _gain_share(dark: Tensor, bright: Tensor) -> Tensor:
    """How much denoising the gain asks for, 0 to 1, 0-dim: full from a mean gain of 2.8 (1.5 stops) on."""
    gain = (bright[0].mean().clamp_min(0.0) + 1e-3) / (dark[0].mean().clamp_min(0.0) + 1e-3)  # below black: no NaN
    return (gain.log2() / 1.5).clamp(0.0, 1.0)


Level = TypeVar("Level", float, Tensor, float | Tensor)


def transfer_eps(noise: Level, *, denoised: bool) -> tuple[Level, Level]:
    """Regularisation of the transfer for luma and chroma, squared normalised units.

    It is what makes the maps a Wiener gain, so it follows the noise; a model that denoises has said already in its
    result where detail is, and needs less of it.

    Args:
        noise: Standard deviation of the luma noise of the small copy.
        denoised: Whether the model removes noise.
    """
    variance = ((1.0 if denoised else 3.0) * noise) ** 2
    return variance + _LUMA_STEP**2, variance + _CHROMA_STEP**2


def default_workers() -> int:
    """Kernel threads when nothing is said: two, but one core is left to decoder and encoder where there are only two.

    More bands than free cores only wait for one another.
    """
    return max(1, min(2, available_cores() - 1))


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
