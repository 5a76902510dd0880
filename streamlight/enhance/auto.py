"""Whole frames as long as they are small, a small copy of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch

from streamlight.engine.link import Link
from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.direct import DirectEnhancer
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.enhance.watch import is_resized
from streamlight.errors import DeviceError
from streamlight.media.frame import Frame
from streamlight.temporal import StreamState


class AutoEnhancer(Enhancer):
    """Direct for frames of up to ``direct_limit`` pixels, guided above. A stream whose frames change size begins anew.

    Args:
        direct: For small frames.
        guided: For large ones; of the same model, settings and device.
    """

    def __init__(self, direct: DirectEnhancer, guided: GuidedEnhancer) -> None:
        super().__init__(direct.model, direct.settings, device=direct.device)
        self.direct = direct
        self.guided = guided
        direct.timings = guided.timings = self.timings
        self.resident = guided.resident = direct.resident
        self._fits = 1 << 62  # pixels of a frame that the device's memory suffices for

    def chosen(self, width: int, height: int) -> DirectEnhancer | GuidedEnhancer:
        """The enhancer for frames of this size."""
        return self.direct if width * height <= min(self.settings.direct_limit, self._fits) else self.guided

    @property
    def link(self) -> Link | None:
        """See :attr:`Enhancer.link`."""
        return self.guided.link

    @property
    def fallbacks(self) -> list[str]:
        """See :attr:`Enhancer.fallbacks`."""
        return list(dict.fromkeys([*super().fallbacks, *self.direct.fallbacks, *self.guided.fallbacks]))

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        pairs = list(zip(frames, states, strict=True))
        if len({id(state) for state in states}) < len(states):  # of one stream: a size counts from its frame on
            return [self([frame], [state])[0] for frame, state in pairs]
        for frame, state in pairs:
            if is_resized(state, frame):
                state.reset()
            state.size = (frame.width, frame.height)
        whole = [pair for pair in pairs if self.chosen(pair[0].width, pair[0].height) is self.direct]
        others = [pair for pair in pairs if self.chosen(pair[0].width, pair[0].height) is self.guided]
        dark = [frame.planes for frame, _ in whole]
        try:
            self.direct([frame for frame, _ in whole], [state for _, state in whole])
        except DeviceError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            left = [pair for pair, planes in zip(whole, dark, strict=True) if pair[0].planes is planes]
            self._step_down([frame for frame, _ in left])
            for frame, state in whole:  # those that are done, too: their next frame takes the other way
                if self.chosen(frame.width, frame.height) is self.guided:
                    state.reset()
            self([frame for frame, _ in left], [state for _, state in left])
        self.guided([frame for frame, _ in others], [state for _, state in others])
        return list(frames)

    def _step_down(self, frames: list[Frame]) -> None:
        """From now on a small copy of frames as large as the largest of these, which memory did not suffice for."""
        largest = max(frames, key=lambda frame: frame.width * frame.height)
        self._fits = largest.width * largest.height - 1
        self.step_down(
            f"frames of {largest.width}x{largest.height} do not fit into the memory of {self.device} as a whole: guided"
        )

    @property
    def batches(self) -> bool:
        """See :attr:`Enhancer.batches`."""
        return self.direct.batches

    def adjusted(self, settings: EnhanceSettings) -> Self:
        """See :meth:`Enhancer.adjusted`."""
        other = super().adjusted(settings)
        other.direct, other.guided = self.direct.adjusted(settings), self.guided.adjusted(settings)
        return other

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """See :meth:`Enhancer.snapshot`."""
        return self.guided.snapshot(state)

    def close(self) -> None:
        """End the threads of both."""
        self.direct.close()
        self.guided.close()
