"""Direct mode: the model sees every pixel of every frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.enhance.base import Enhancer, EnhanceSettings
from streamlight.enhance.clock import Clock
from streamlight.enhance.color import codes_from_rgb, rgb_from_planes
from streamlight.enhance.decide import decide, steady
from streamlight.enhance.together import decide_together, in_groups
from streamlight.enhance.watch import Step, look
from streamlight.errors import DeviceError, ModelError
from streamlight.media.frame import ColorSpec, Frame
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
            in_groups(self, frames, states, self._enhance_or_say, timed=self.settings.stability > 0.0)
        return list(frames)

    def _enhance_or_say(self, frames: list[Frame], states: list[StreamState], seconds: list[float]) -> None:
        """:meth:`_enhance`; a single frame that memory does not suffice for is the user's business."""
        try:
            self._enhance(frames, states, seconds)
        except torch.OutOfMemoryError as error:
            if len(frames) > 1:
                raise
            raise DeviceError(
                f"{self.device} has not enough memory for model {self.model.card.name!r} at "
                f"{frames[0].width}x{frames[0].height}; use a smaller model or frame, --mode guided, or --device cpu"
            ) from error

    @torch.inference_mode()
    def _enhance(self, frames: Sequence[Frame], states: Sequence[StreamState], seconds: Sequence[float]) -> None:
        """Frames of one size, each of another stream."""
        color = frames[0].color

        def work(planes: list[Any], own: list[StreamState], steps: list[Any], clock: Clock | None = None) -> list[Any]:
            clock = clock or Clock(defaultdict(float))
            lows, seen = [], []
            for each, state, step in zip(planes, own, steps, strict=True):
                lows.append(rgb_from_planes(each, color, device=self.device)[None])
                clock.lap("to rgb")
                looked = look(state, _small_luma(each[0], color), step) if self.settings.stability > 0.0 else Step()
                clock.lap("temporal")
                seen.append(looked.on(self.device))
            bright = self._decide(lows, own, seen)
            clock.lap("model")
            return [codes_from_rgb(picture[0], color) for picture in bright]

        if self.resident is not None:
            key = (self.settings, self.model.card.revision, color)
            self.resident.run(frames, states, seconds, work, key=key)
            return
        clock = Clock(self.timings)
        found = work([frame.planes for frame in frames], list(states), list(seconds), clock)
        for frame, state, planes in zip(frames, states, found, strict=True):
            frame.planes = tuple(plane.numpy() for plane in planes)
            state.age += 1
        clock.lap("to planes")

    def _decide(self, lows: list[Tensor], states: Sequence[StreamState], steps: list[Step]) -> list[Tensor]:
        """What the dark pictures become, ``(1, 3, H, W)`` each."""
        model, settings = self.model, self.settings
        lows = [steady(model, low, state, step, settings) for low, state, step in zip(lows, states, steps, strict=True)]
        if len(lows) > 1:
            return decide_together(model, lows, states, steps, settings)
        return [decide(model, lows[0], states[0], steps[0], settings)]


def _small_luma(luma: Any, color: ColorSpec) -> Tensor:
    """Luma on a small copy of at most 480 columns or rows, ``(h, w)``, [0, 1], where the plane ``(H, W)`` is."""
    offset, span = color.luma_scale()
    plane = luma.to(torch.float32) if isinstance(luma, Tensor) else torch.from_numpy(luma.astype(np.float32))
    plane = plane.sub_(offset).div_(span)
    factor = -(-max(plane.shape) // 480)
    return F.avg_pool2d(plane[None], factor, ceil_mode=True, count_include_pad=False)[0] if factor > 1 else plane
