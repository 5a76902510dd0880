"""Whether enhancement helps a detector: what ``streamlight evaluate detection`` measures.

The same detector looks at the dark picture, at the dark picture under a plain power law, and at what each contender
makes of it, frame after frame with the memory of a stream. The truth comes from labels; or it is what the detector
itself finds in the clean clip: there, boxes of :data:`SURE` and more are true, those between :data:`DOUBT` and that
count neither way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from streamlight.detect import Detector, load_detector
from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation.contenders import BASELINES, Contender, parse_contender
from streamlight.evaluation.darkened import darkened
from streamlight.evaluation.detection_labels import Labels, read_labels
from streamlight.evaluation.detection_report import CaseReport, DetectionReport
from streamlight.evaluation.detection_scores import DetectionMeter, Scores, TrueBox
from streamlight.evaluation.machine import describe_machine
from streamlight.media import Frame, is_image_name, open_source

FRAMES: Final = 90
WARM_UP: Final = 15
CODING: Final = "x264 crf 20"
SURE, DOUBT = 0.5, 0.1
_LEAST: Final = 0.01
"""Least score that average precision looks at."""


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """With what, and on how much, is measured.

    Attributes:
        detector: ``"motion"`` or an ONNX file.
        names: File with class names; None for the model's.
        device: Where a network runs.
        threshold: Operating score; None for the detector's own.
        frames: Taken from the start of each clip.
        warm_up: Of them, these only fill the memory of the stream; pictures need none.
        labels: Classes that count; empty for all.
        sure: Score from which boxes found in a clean clip are the truth.
    """

    detector: str
    names: str | None = None
    device: str = "cpu"
    threshold: float | None = None
    frames: int = FRAMES
    warm_up: int = WARM_UP
    labels: tuple[str, ...] = ()
    sure: float = SURE


@dataclass(frozen=True, slots=True)
class _Case:
    """A dark clip with its truth: a list of boxes for every frame that counts."""

    name: str
    path: Path
    truth: dict[int, list[TrueBox]]


def evaluate_detection(
    contenders: Sequence[Contender],
    *,
    clips: Sequence[str | Path],
    settings: DetectionSettings,
    labels: str | Path | None = None,
    reference: str | Path | None = None,
    exposures: Sequence[float] = (),
    camera: str = "surveillance",
    cache: str | Path | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> DetectionReport:
    """Measure how well a detector does on dark clips, and on what contenders make of them.

    Exactly one of ``labels``, ``reference`` and ``exposures`` says what is true.

    Args:
        contenders: The dark clip itself and plain gamma are always told besides.
        clips: Dark clips or pictures; with ``exposures`` clean ones.
        settings: With what is measured.
        labels: File with the true boxes.
        reference: The clean version of the one clip, frame by frame.
        exposures: Shares of the light that are left to each clean clip (:mod:`streamlight.evaluation.darkened`).
        camera: Whose noise is added then: ``"surveillance"`` or ``"dashcam"``.
        cache: Folder to keep darkened clips in.
        command: How this was called, for the record.
        progress: Told what is being done.

    Raises:
        ConfigError: The arguments do not go together, or a setting is wrong.
        MediaError: A clip cannot be read or is too short.
        ModelError: A model or detector cannot be loaded.
        DeviceError: The device is not there.
    """
    _check(clips, labels, reference, exposures, settings)
    everyone = [parse_contender(name) for name in BASELINES]
    everyone += [contender for contender in contenders if not contender.baseline]
    names = [contender.label for contender in everyone]
    if len(set(names)) < len(names):
        raise ConfigError(f"expected contenders with different names, got {', '.join(names)}")
    models = {contender.label: _about(contender) for contender in everyone[1:]}
    with closing(_detector(settings, None)) as own:
        operating = settings.threshold if settings.threshold is not None else float(own.describe()["threshold"])
    with ExitStack() as stack:
        detector = stack.enter_context(closing(_detector(settings, _LEAST)))
        cases = _Cases(detector, settings, stack, progress)
        if labels is not None:
            found, truth = cases.labelled(clips, read_labels(labels)), f"labels ({Path(labels).name})"
        elif reference is not None:
            found = cases.paired(Path(clips[0]), Path(reference))
            truth = f"the detector's boxes of {settings.sure:g} and more on the clean clip"
        else:
            found = cases.darkened(clips, exposures, camera, cache)
            truth = f"the detector's boxes of {settings.sure:g} and more on the clean clip"
        reports = []
        for case in found:
            reports.append(_measure(case, everyone, detector, operating, settings, progress))
            detector.forget("")
        return DetectionReport(
            command, describe_machine(), detector.describe(), operating, truth, models, reports, dict(cases.unknown)
        )


class _Cases:
    """Makes the cases, one after another."""

    def __init__(
        self, detector: Detector, settings: DetectionSettings, stack: ExitStack, progress: Callable[[str], None]
    ) -> None:
        self._detector, self._settings, self._stack, self._progress = detector, settings, stack, progress
        self.unknown: Counter[str] = Counter()

    def labelled(self, clips: Sequence[str | Path], labels: Labels) -> Iterator[_Case]:
        """Clips whose boxes are in a file."""
        for path in map(Path, clips):
            truth: dict[int, list[TrueBox]] = {}
            for frame in _frames(path, self._settings, short=True):
                if frame.index < self._settings.warm_up and not is_image_name(path):
                    continue
                boxes = labels.of(path.name, frame.index, (frame.width, frame.height))
                if boxes is not None:
                    truth[frame.index] = list(self._known(boxes))
            yield _Case(path.name, path, truth)

    def paired(self, dark: Path, clean: Path) -> Iterator[_Case]:
        """A dark clip and its clean version."""
        yield _Case(dark.name, dark, self._found_in(clean))

    def darkened(
        self, clips: Sequence[str | Path], exposures: Sequence[float], camera: str, cache: str | Path | None
    ) -> Iterator[_Case]:
        """Clean clips made dark."""
        for clean in map(Path, clips):
            self._progress(f"{clean.stem}: clean")
            truth = self._found_in(clean)
            for exposure in exposures:
                light = f"1/{round(1 / exposure)}"
                self._progress(f"{clean.stem}: made dark, {light} of the light")
                with darkened(
                    clean,
                    camera=camera,
                    frames=self._settings.frames,
                    cache=cache,
                    exposure=exposure,
                    codings=(CODING,),
                ) as dark:
                    yield _Case(f"{clean.stem}, {light} of the light", dark[0].path, truth)

    def _found_in(self, clean: Path) -> dict[int, list[TrueBox]]:
        truth: dict[int, list[TrueBox]] = {}
        for frame in _frames(clean, self._settings):
            found = self._detector(frame, camera=f"clean {clean.name}")
            if frame.index >= self._settings.warm_up:
                boxes = [TrueBox(one.label, one.box, one.score < self._settings.sure)
                         for one in found if one.score >= min(DOUBT, self._settings.sure)]  # fmt: skip
                truth[frame.index] = list(self._known(boxes))
        return truth

    def _known(self, boxes: Sequence[TrueBox]) -> Iterator[TrueBox]:
        """Those that count, under the detector's names."""
        names = {name.casefold(): name for name in self._detector.names}
        for box in boxes:
            name = names.get(box.label.casefold())
            if name is None:
                self.unknown[box.label] += 1
            elif not self._settings.labels or name in self._settings.labels:
                yield TrueBox(name, box.box, box.ignored, box.crowd)


def _measure(
    case: _Case,
    contenders: Sequence[Contender],
    detector: Detector,
    operating: float,
    settings: DetectionSettings,
    progress: Callable[[str], None],
) -> CaseReport:
    """What every contender reaches on a clip."""
    rows: dict[str, Scores] = {}
    by_label: dict[str, dict[str, Scores]] = {}
    light: list[float] = []
    size = ""
    for contender in contenders:
        progress(f"{case.name}: {contender.label}")
        meter = DetectionMeter(threshold=operating)
        with closing(contender.open()) as enhancer:
            for frame, before in _enhanced(case.path, enhancer, settings):
                found = detector(frame, camera=f"{case.name} {contender.label}")
                truth = case.truth.get(frame.index)
                if truth is None:
                    continue
                meter.add([one for one in found if not settings.labels or one.label in settings.labels], truth)
                if contender is contenders[0]:
                    light.append(before)
                    size = f"{frame.width}x{frame.height}"
        if not meter.pictures:
            raise MediaError(f"{case.path}: none of its frames is labelled, or all only warm up ({settings.warm_up})")
        detector.forget(f"{case.name} {contender.label}")
        rows[contender.label], by_label[contender.label] = meter.scores(), meter.by_label()
    return CaseReport(case.name, size, len(light), sum(light) / len(light), rows, by_label)


def _enhanced(path: Path, enhancer: Enhancer, settings: DetectionSettings) -> Iterator[tuple[Frame, float]]:
    """Frames after the enhancer, each with the mean luma it had before."""
    state = enhancer.new_state()
    for frame in _frames(path, settings, short=True):
        offset, span = frame.color.luma_scale()
        before = (float(frame.planes[0].mean()) - offset) / span * 219.0
        enhancer([frame], [state])
        yield frame, before


def _frames(path: Path, settings: DetectionSettings, *, short: bool = False) -> Iterator[Frame]:
    count = 0
    with open_source(path, threads=1) as source:
        for frame in islice(source.frames(), settings.frames):
            count += 1
            yield frame
    if count < settings.frames and not short:
        raise MediaError(f"{path}: has {count} frames, {settings.frames} are needed; ask for fewer")


def _detector(settings: DetectionSettings, threshold: float | None) -> Detector:
    return load_detector(settings.detector, device=settings.device, names=settings.names, threshold=threshold)


def _about(contender: Contender) -> dict[str, Any]:
    with closing(contender.open()) as enhancer:
        return contender.describe(enhancer)


def _check(
    clips: Sequence[str | Path],
    labels: str | Path | None,
    reference: str | Path | None,
    exposures: Sequence[float],
    settings: DetectionSettings,
) -> None:
    if (labels is not None) + (reference is not None) + bool(exposures) != 1:
        raise ConfigError(
            "say what is true, in one way: labels (--labels), the clean clip (--reference-clip), or clean clips that "
            "are made dark (--darken)"
        )
    if not clips:
        raise ConfigError("there is nothing to measure: give clips (--clip)")
    if reference is not None and len(clips) != 1:
        raise ConfigError(f"a clean clip is the reference of one dark clip, got {len(clips)}")
    if not 0 <= settings.warm_up < settings.frames:
        raise ConfigError(f"of {settings.frames} frames {settings.warm_up} are to warm up: none would be measured")
