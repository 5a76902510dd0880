"""Whole frames as long as they are small, a small copy of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.direct import DirectEnhancer
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.enhance.watch import is_resized
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

    def chosen(self, width: int, height: int) -> DirectEnhancer | GuidedEnhancer:
        """The enhancer for frames of this size."""
        return self.direct if width * height <= self.settings.direct_limit else self.guided

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        pairs = list(zip(frames, states, strict=True))
        if len({id(state) for state in states}) < len(states):  # of one stream: a size counts from its frame on
            return [self([frame], [state])[0] for frame, state in pairs]
        for frame, state in pairs:
            if is_resized(state, frame):
                state.reset()
            state.size = (frame.width, frame.height)
        for enhancer in (self.direct, self.guided):
            mine = [(frame, state) for frame, state in pairs if self.chosen(frame.width, frame.height) is enhancer]
            if mine:
                enhancer([frame for frame, _ in mine], [state for _, state in mine])
        return list(frames)

    @property
    def batches(self) -> bool:
        """See :attr:`Enhancer.batches`."""
        return self.direct.batches

    def adjusted(self, settings: EnhanceSettings) -> AutoEnhancer:
        """See :meth:`Enhancer.adjusted`."""
        return AutoEnhancer(self.direct.adjusted(settings), self.guided.adjusted(settings))

    def snapshot(self, state: StreamState) -> dict[str, np.ndarray]:
        """See :meth:`Enhancer.snapshot`."""
        return self.guided.snapshot(state)

    def close(self) -> None:
        """End the threads of both."""
        self.direct.close()
        self.guided.close()
