"""Direct mode: the model sees every pixel of every frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.clock import Clock
from streamlight.enhance.color import planes_from_rgb, rgb_from_planes
from streamlight.enhance.decide import decide, steady
from streamlight.enhance.together import alike, decide_together
from streamlight.enhance.watch import Step, watch
from streamlight.errors import DeviceError, ModelError
from streamlight.media.frame import Frame
from streamlight.models.protocol import GenerativeModel
from streamlight.temporal import StreamState


class DirectEnhancer(Enhancer):
    """Whole frames as RGB through the model.

    Global statistics are the model's own, taken once per frame; it pads and tiles inside where its card allows it.
    A stochastic model starts every frame of a stream from the same noise, drawn from the seed: noise that changed
    from frame to frame would be flicker. With ``stability`` 0 the result depends on no state, and frames may be taken
    up anywhere.

    Args:
        model: A model on RGB pictures.
        settings: What the user set.
        device: Where the model is.

    Raises:
        ModelError: The model does not work on RGB pictures.
    """

    def __init__(
        self, model: GenerativeModel, settings: EnhanceSettings, *, device: torch.device | None = None
    ) -> None:
        if model.card.color != "rgb":
            raise ModelError(
                f"model {model.card.name!r} decides on small YCbCr copies; direct mode hands over RGB frames"
            )
        super().__init__(model, settings, device=device)

    @property
    def batches(self) -> bool:
        """See :attr:`Enhancer.batches`."""
        return self.model.card.batches

    def __call__(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> list[Frame]:
        """See :meth:`Enhancer.__call__`."""
        if self.settings.strength > 0.0:
            single = [[position] for position in range(len(frames))]
            for group in alike(frames, states) if self.batches else single:
                self._enhance([frames[i] for i in group], [states[i] for i in group])
        return list(frames)

    @torch.inference_mode()
    def _enhance(self, frames: Sequence[Frame], states: Sequence[StreamState]) -> None:
        """Frames of one size, each of another stream."""
        clock = Clock(self.timings)
        lows, steps = [], []
        for frame, state in zip(frames, states, strict=True):
            lows.append(rgb_from_planes(frame.planes, frame.color, device=self.device)[None])
            clock.lap("to rgb")
            step = watch(state, _small_luma(frame), frame) if self.settings.stability > 0.0 else Step()
            clock.lap("temporal")
            steps.append(step.on(self.device))
        bright = self._decide(frames[0], lows, states, steps)
        clock.lap("model")
        for frame, state, picture in zip(frames, states, bright, strict=True):
            frame.planes = planes_from_rgb(picture[0], frame.color)
            state.age += 1
        clock.lap("to planes")

    def _decide(
        self, frame: Frame, lows: list[Tensor], states: Sequence[StreamState], steps: list[Step]
    ) -> list[Tensor]:
        """What the dark pictures become, ``(1, 3, H, W)`` each."""
        model, settings = self.model, self.settings
        try:
            lows = [
                steady(model, low, state, step, settings) for low, state, step in zip(lows, states, steps, strict=True)
            ]
            if len(lows) > 1:
                return decide_together(model, lows, states, steps, settings)
            return [decide(model, lows[0], states[0], steps[0], settings)]
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} has not enough memory for model {model.card.name!r} at {len(lows)} x "
                f"{frame.width}x{frame.height}; use a smaller model or frame, or --device cpu"
            ) from error


def _small_luma(frame: Frame) -> Tensor:
    """Luma on a small copy of at most 480 columns or rows, ``(h, w)``, [0, 1]."""
    offset, span = frame.color.luma_scale()
    luma = torch.from_numpy(frame.planes[0].astype(np.float32)).sub_(offset).div_(span)
    factor = -(-max(luma.shape) // 480)
    return F.avg_pool2d(luma[None], factor, ceil_mode=True, count_include_pad=False)[0] if factor > 1 else luma
