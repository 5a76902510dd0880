"""What the enhancer can give up for speed, dearest first: working size, then key frames, then the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from streamlight.pipelines.building import MODEL_KEYWORDS, enhancer_for

from streamlight.config import Config
from streamlight.enhance import Enhancer, build_enhancer
from streamlight.media import ColorSpec, Frame

_SIZES = (Fraction(2, 3), Fraction(1, 2))
_SMALLEST = 128
_INTERVALS = (4, 8, 16)
UNTOUCHED = "untouched"
_USUAL = (1920, 1080)
_UNTIL_GRAPHS = 6
"""Frames after which a stream has settled and its work has repeated often enough."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of quality.

    Attributes:
        name: For people, reports and metrics.
        enhancer: What works on it; None hands pictures on as the camera gave them.
        family: Enhancers of one family share what they remember of a stream.
        batches: Whether waiting for frames of other cameras pays: the model takes several in one call.
    """

    name: str
    enhancer: Enhancer | None
    family: str = ""
    batches: bool = False


class Rungs:
    """The rungs of a configuration; closes what it made.

    The last one is the picture as the camera gave it: late pictures help nobody.

    Args:
        config: The configuration in force.

    Raises:
        StreamlightError: As :func:`streamlight.pipelines.building.enhancer_for` says.
    """

    def __init__(self, config: Config) -> None:
        self._owned: list[Enhancer] = []
        self.rungs: list[Rung] = []
        first = self._make(config)
        self._add("full", first)
        if first.model.card.color == "rgb":
            self._add_of_pictures(first, config)
        else:
            last = self._smaller(first)
            if last.model.card.name == "tonenet" and config.model.denoiser != "off":
                self._add_plain(config, working_size=last.settings.working_size)
        self.rungs.append(Rung(UNTOUCHED, None))

    def _add_of_pictures(self, first: Enhancer, config: Config) -> None:
        """What a model on RGB pictures can give up, and in the end itself."""
        last = first
        if config.model.mode != "guided":
            last = build_enhancer(first.model, device=config.model.devices[0], mode="guided", settings=first.settings)
            self._owned.append(last)
            self._add("guided", last)
        self._rarer(self._smaller(last))
        config = _with_model(config, name="tonenet", mode="auto", weights=None, **dict.fromkeys(MODEL_KEYWORDS))
        self._add("tonenet", self._make(config))
        self._add_plain(config, working_size=config.model.working_size)

    def _add_plain(self, config: Config, *, working_size: int) -> None:
        """tonenet, which then only changes the tone."""
        plain = self._make(_with_model(config, denoiser="off", working_size=working_size))
        self._add("without the denoiser", plain)

    def __getitem__(self, index: int) -> Rung:
        """The rung with that number."""
        return self.rungs[index]

    @property
    def names(self) -> list[str]:
        """Names, the best first."""
        return [rung.name for rung in self.rungs]

    def warm_up(self) -> None:
        """Let every kind of enhancer work on dark pictures: compiling must not cost live frames.

        On a host small ones do. On a card kernels are made for a working size, and graphs for a size of frame: there
        every rung gets frames of the usual size, until a graph can have been made.
        """
        done = set()
        for rung in self.rungs:
            enhancer = rung.enhancer
            if enhancer is None:
                continue
            on_card = enhancer.link is not None
            kind = (rung.family, type(enhancer), enhancer.settings.working_size if on_card else None)
            if kind in done:
                continue
            done.add(kind)
            state = enhancer.new_state()
            large = enhancer.model.card.color == "rgb"
            size, count = ((96, 64), 1) if large else ((320, 192), 2)
            if on_card:
                size, count = _USUAL, _UNTIL_GRAPHS
            for number in range(count):
                enhancer([_dark_frame(number, *size)], [state])

    def close(self) -> None:
        """Release every enhancer."""
        for enhancer in self._owned:
            enhancer.close()

    def _make(self, config: Config) -> Enhancer:
        enhancer = enhancer_for(config)
        self._owned.append(enhancer)
        return enhancer

    def _add(self, name: str, enhancer: Enhancer) -> None:
        card = enhancer.model.card
        self.rungs.append(Rung(name, enhancer, family=card.name, batches=enhancer.batches))

    def _smaller(self, enhancer: Enhancer) -> Enhancer:
        """Add rungs with smaller copies, where there is one."""
        whole = enhancer.settings.working_size
        for share in _SIZES:
            size = int(whole * share) // 16 * 16
            if size >= _SMALLEST:
                enhancer = enhancer.adjusted(replace(enhancer.settings, working_size=size))
                self._add(f"working size {size}", enhancer)
        return enhancer

    def _rarer(self, enhancer: Enhancer) -> Enhancer:
        """Add rungs on which the model decides less often, on a thread of its own."""
        for interval in _INTERVALS:
            if interval > enhancer.settings.keyframe_interval:
                settings = replace(enhancer.settings, keyframe_interval=interval, keyframe_async=True)
                enhancer = enhancer.adjusted(settings)
                self._add(f"a key frame in {interval}", enhancer)
        return enhancer


def _with_model(config: Config, **changes: object) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _dark_frame(number: int, width: int, height: int) -> Frame:
    """A small dark picture with some grain."""
    rng = np.random.default_rng(number)
    luma = rng.integers(16, 40, (height, width), np.uint8)
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return Frame((luma, chroma, chroma.copy()), ColorSpec(), pts=3000 * number, time_base=Fraction(1, 90000))
