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
        for frame, state in zip(frames, states, strict=True):
            if is_resized(state, frame):
                state.reset()
            state.size = (frame.width, frame.height)
            self.chosen(frame.width, frame.height)([frame], [state])
        return list(frames)

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
