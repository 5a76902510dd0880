"""Guided mode: a model on a small copy, the memory of a stream, the transfer to full resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
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
from streamlight.enhance.decide import decide
from streamlight.enhance.transfer import FrameGeometry, GuidedTransfer
from streamlight.enhance.watch import Step, watch
from streamlight.media.frame import ColorSpec, Frame
from streamlight.models.protocol import GenerativeModel
from streamlight.temporal import CODE, StreamState, motion_gate

_LUMA_STEP: Final = 0.85 * CODE
_CHROMA_STEP: Final = 1.7 * CODE


class GuidedEnhancer(Enhancer):
    """The model decides on a small copy; the guided transfer carries it out on the full-resolution planes.

    A model that works on RGB pictures sees the small copy as RGB. One that samples starts every frame of a stream from
    the same noise, drawn from the seed: noise that changed from frame to frame would be flicker.

    Args:
        model: Any model.
        settings: What the user set.
    """

    def __init__(self, model: GenerativeModel, settings: EnhanceSettings) -> None:
        super().__init__(model, settings)
        workers = settings.workers if settings.workers is not None else default_workers()
        self._rows = RowPool(workers)
        self._transfers: dict[tuple[int, int, int, ColorSpec], GuidedTransfer] = {}

    def close(self) -> None:
        """End the kernel threads."""
        self._rows.close()

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        if self.settings.strength > 0.0:
            # A network that is no matter of milliseconds is worth every core.
            with _one_torch_thread() if self.model.card.color == "ycbcr" else nullcontext():
                for frame, state in zip(frames, states, strict=True):
                    frame.planes = self._enhance(frame, state)
        return list(frames)

    @torch.inference_mode()
    def _enhance(self, frame: Frame, state: StreamState) -> tuple[np.ndarray, ...]:
        transfer = self._transfer(frame)
        clock = Clock(self.timings)
        small = transfer.shrink(frame.planes)
        clock.lap("shrink")
        step = watch(state, small[0], frame)
        gate = self._filter(state, small)
        clock.lap("temporal")
        dark = state.small
        assert dark is not None
        bright = self._decide(dark, frame.color, state, step)
        clock.lap("model")
        amount = self._denoise_amount(dark, bright)
        noise = float(state.noise) if state.noise is not None else 0.0
        luma_eps, chroma_eps = transfer_eps(noise, denoised=self.model.card.denoises)
        share = max(amount, 1e-3)
        maps = transfer.fit(dark, bright, eps=(share * luma_eps, share * chroma_eps))
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

    def _decide(self, dark: Tensor, color: ColorSpec, state: StreamState, step: Step) -> Tensor:
        """What the small copy becomes, ``(3, h, w)`` normalised YCbCr like ``dark``."""
        rgb = self.model.card.color == "rgb"
        calm = calm_near_black(dark, amount=self.settings.denoise)
        low = (rgb_from_ycbcr(calm, color) if rgb else calm)[None]
        noise = state.noise[None] if state.noise is not None else None
        picture = decide(self.model, low, state, step, self.settings, noise=noise)[0]
        return ycbcr_from_rgb(picture, color) if rgb else picture

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
