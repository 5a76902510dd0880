"""Guided mode: a model on a small copy, the memory of a stream, the transfer to full resolution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamlight.cores import available_cores
from streamlight.engine.rows import RowPool
from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.calm import calm_near_black
from streamlight.enhance.clock import Clock
from streamlight.enhance.color import rgb_from_ycbcr, ycbcr_from_rgb
from streamlight.enhance.decide import averages, decide, steady
from streamlight.enhance.keyframes import KeyResult, carry_key, is_due, keep_key, shadow_of, step_from_key
from streamlight.enhance.keyworker import KeyWorker
from streamlight.enhance.transfer import AffineMaps, FrameGeometry, GuidedTransfer
from streamlight.enhance.watch import Step, watch
from streamlight.media.frame import ColorSpec, Frame
from streamlight.models.protocol import GenerativeModel
from streamlight.temporal import CODE, StreamState, motion_gate

_LUMA_STEP: Final = 0.85 * CODE
_CHROMA_STEP: Final = 1.7 * CODE


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame's small copy.

    Attributes:
        dark: ``(3, h, w)`` normalised YCbCr.
        low: The same as the model sees it, ``(1, 3, h, w)``, on its device.
        color: Of the frame.
    """

    dark: Tensor
    low: Tensor
    color: ColorSpec


class GuidedEnhancer(Enhancer):
    """The model decides on a small copy; the guided transfer carries it out on the full-resolution planes.

    A model that works on RGB pictures sees the small copy as RGB. One that samples starts every frame of a stream from
    the same noise, drawn from the seed: noise that changed from frame to frame would be flicker.

    Between key frames the model rests, and its last decision is carried along the motion. With ``keyframe_async`` it
    works on a thread of its own, always on the newest frame, and only the first frame of a scene waits for it; what it
    raises is raised by the next call for that stream, once.

    Args:
        model: Any model.
        settings: What the user set.
        device: Where the model is; the transfer stays on the CPU.
    """

    def __init__(
        self, model: GenerativeModel, settings: EnhanceSettings, *, device: torch.device | None = None
    ) -> None:
        super().__init__(model, settings, device=device)
        workers = settings.workers if settings.workers is not None else default_workers()
        self._rows = RowPool(workers)
        self._transfers: dict[tuple[int, int, int, ColorSpec], GuidedTransfer] = {}
        self._worker: KeyWorker[KeyResult] = KeyWorker()

    def close(self) -> None:
        """End the threads; a key frame that is under way is waited for."""
        self._worker.close()
        self._rows.close()

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """See :meth:`Enhancer.snapshot`; a key frame that is under way is waited for."""
        self._take(state, wait=True)
        return super().snapshot(state)

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        if self.settings.strength > 0.0:
            with self._torch_threads():
                for frame, state in zip(frames, states, strict=True):
                    frame.planes = self._enhance(frame, state)
        return list(frames)

    def _torch_threads(self) -> AbstractContextManager[None]:
        # A network that is no matter of milliseconds is worth every core.
        return _one_torch_thread() if self.model.card.color == "ycbcr" else nullcontext()

    @torch.inference_mode()
    def _enhance(self, frame: Frame, state: StreamState) -> tuple[np.ndarray, ...]:
        transfer = self._transfer(frame)
        clock = Clock(self.timings)
        small = transfer.shrink(frame.planes)
        clock.lap("shrink")
        step = watch(state, small[0], frame)
        gate = self._filter(state, small)
        clock.lap("temporal")
        seen = self._see(frame.color, state, step)
        clock.lap("steady")
        maps, amount = self._maps(transfer, seen, state, step, clock)
        if gate is None or not state.memory:
            state.memory = transfer.remember(frame.planes)
            planes = transfer.apply(frame.planes, maps)
        else:
            noise = float(step.noise)
            # Without gain there is no noise to hide, and the filter must not cost detail.
            gate = torch.lerp(torch.ones_like(gate), gate, amount)
            planes = transfer.filter_apply(
                frame.planes, maps, memory=state.memory, gate=gate, threshold=max(2.0, 8.0 * noise / CODE)
            )
        clock.lap("apply")
        state.age += 1
        return planes

    def _maps(
        self, transfer: GuidedTransfer, seen: Seen, state: StreamState, step: Step, clock: Clock
    ) -> tuple[AffineMaps, float]:
        """The maps of a frame, decided or carried, and how much denoising they ask for."""
        settings = self.settings
        self._take(state, wait=not settings.keyframe_async)
        since = step_from_key(state, step)
        alone = settings.keyframe_interval == 1 and not settings.keyframe_async
        if alone or is_due(state.key, since, age=state.age, interval=settings.keyframe_interval):
            if not settings.keyframe_async:
                maps, amount, key = self._decide(transfer, seen, state, since, clock, keep=not alone)
                state.key, state.key_moment = key, state.moment if key else None
                return maps, amount
            if self._ask(transfer, seen, state, since):
                since = step_from_key(state, step)
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
        dark = seen.dark
        bright = self._brighten(seen, state, step)
        clock.lap("model")
        amount = self._denoise_amount(dark, bright)
        noise = float(state.noise) if state.noise is not None else 0.0
        luma_eps, chroma_eps = transfer_eps(noise, denoised=self.model.card.denoises)
        share = max(amount, 1e-3)
        eps = (share * luma_eps, share * chroma_eps)
        maps = transfer.fit(dark, bright, eps=eps)
        key = {}
        if keep:
            key = keep_key(state, transfer, dark=dark, guide=self._guide(seen), bright=bright, maps=maps, eps=eps)
            key["amount"] = torch.tensor(amount, dtype=torch.float64)
        clock.lap("fit")
        return maps, amount, key

    def _transfer(self, frame: Frame) -> GuidedTransfer:
        size = self.settings.working_size
        key = (size, frame.width, frame.height, frame.color)
        if key not in self._transfers:
            if len(self._transfers) >= 16:
                self._transfers.clear()
            geometry = FrameGeometry.of(frame.width, frame.height, frame.color, long_side=size)
            self._transfers[key] = GuidedTransfer(geometry, self._rows)
        return self._transfers[key]

    def _filter(self, state: StreamState, small: Tensor) -> Tensor | None:
        """Filter the small copy over time; return the gate for the full-size planes (None on a first frame)."""
        if state.small is None or state.noise is None:
            state.small = small
            return None
        gate = motion_gate(small, state.small, state.noise)
        state.small = torch.lerp(state.small, small, gate)
        return gate

    def _see(self, color: ColorSpec, state: StreamState, step: Step) -> Seen:
        """What the model would see of this frame; averaged over time on every frame, also where the model rests."""
        dark = state.small
        assert dark is not None
        low = calm_near_black(dark, amount=self.settings.denoise)
        if self.model.card.color == "rgb":
            low = rgb_from_ycbcr(low, color)
        low = low[None].to(self.device)
        return Seen(dark, steady(self.model, low, state, step.on(self.device), self.settings), color)

    def _guide(self, seen: Seen) -> Tensor:
        """The small copy as calm over time as the model saw it, ``(3, h, w)`` normalised YCbCr."""
        return self._ycbcr(seen.low, seen.color) if averages(self.model, self.settings) else seen.dark

    def _brighten(self, seen: Seen, state: StreamState, step: Step) -> Tensor:
        """What the small copy becomes, ``(3, h, w)`` normalised YCbCr."""
        noise = state.noise[None].to(self.device) if state.noise is not None else None
        picture = decide(self.model, seen.low, state, step.on(self.device), self.settings, noise=noise)
        return self._ycbcr(picture, seen.color)

    def _ycbcr(self, picture: Tensor, color: ColorSpec) -> Tensor:
        """A picture of the model's, ``(1, 3, h, w)``, for the transfer."""
        one = picture[0].cpu()
        return ycbcr_from_rgb(one, color) if self.model.card.color == "rgb" else one

    def _denoise_amount(self, dark: Tensor, bright: Tensor) -> float:
        """How much denoising the gain asks for, 0 to 1: full from a mean gain of 2.8 (1.5 stops) on."""
        gain = (bright[0].mean().clamp_min(0.0) + 1e-3) / (dark[0].mean().clamp_min(0.0) + 1e-3)  # below black: no NaN
        return self.settings.denoise * float((gain.log2() / 1.5).clamp(0.0, 1.0))


Level = TypeVar("Level", float, Tensor)


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
