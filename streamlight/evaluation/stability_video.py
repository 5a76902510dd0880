"""How steady an enhanced video is: what ``streamlight evaluate stability`` measures.

Files are read side by side, frame by frame; two frames of each are in memory at a time. Sizes and numbers of frames
must agree. What is measured is said in :mod:`streamlight.evaluation.stability_report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Final

from streamlight.errors import MediaError
from streamlight.evaluation.stability_meter import LEAST_FRAMES, StabilityMeter
from streamlight.evaluation.stability_report import Role, StabilityReport
from streamlight.media import Frame, Source, open_source

SMALLEST: Final = 16


def evaluate_stability(
    enhanced: str | Path,
    *,
    source: str | Path,
    reference: str | Path | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> StabilityReport:
    """Measure how steady a video is.

    Args:
        enhanced: The video that is judged.
        source: The dark one it was made of.
        reference: The clean one that it should be, if there is one.
        command: How this was called, for the record.
        progress: Told what is being done, now and then.

    Raises:
        MediaError: A file cannot be read; the files differ in size or in the number of frames; there are fewer than 3
            frames, or they are smaller than 16x16.
    """
    paths: dict[Role, Path] = {"enhanced": Path(enhanced), "source": Path(source)}
    if reference is not None:
        paths["reference"] = Path(reference)
    with ExitStack() as stack:
        opened = {role: stack.enter_context(open_source(path, tonemap=True)) for role, path in paths.items()}
        _check_sizes(paths, opened)
        meter = StabilityMeter(tuple(paths))
        for index, frames in enumerate(_in_step(paths, opened)):
            meter.add(dict(zip(paths, frames, strict=True)))
            if (index + 1) % 50 == 0:
                progress(f"{index + 1} frames")
    if meter.frames < LEAST_FRAMES:
        raise MediaError(f"{enhanced}: has {meter.frames} frames, stability needs {LEAST_FRAMES} or more")
    return meter.report({role: path.name for role, path in paths.items()}, command=command)


def _check_sizes(paths: dict[Role, Path], opened: dict[Role, Source]) -> None:
    sizes = {role: (source.info.width, source.info.height) for role, source in opened.items()}
    width, height = sizes["enhanced"]
    for role, size in sizes.items():
        if size != (width, height):
            raise MediaError(
                f"{paths[role]}: is {size[0]}x{size[1]}, {paths['enhanced']} is {width}x{height}; "
                "pixels are compared one by one, so all files must have the same size"
            )
    if min(width, height) < SMALLEST:
        raise MediaError(f"{paths['enhanced']}: is {width}x{height}, at least {SMALLEST}x{SMALLEST} pixels are needed")


def _in_step(paths: dict[Role, Path], opened: dict[Role, Source]) -> Iterator[tuple[Frame, ...]]:
    for index, frames in enumerate(zip_longest(*(source.frames() for source in opened.values()))):
        ended = [str(path) for path, frame in zip(paths.values(), frames, strict=True) if frame is None]
        if ended:
            going = [str(path) for path, frame in zip(paths.values(), frames, strict=True) if frame is not None]
            raise MediaError(
                f"{', '.join(ended)}: ends after {index} frames, {', '.join(going)} goes on; "
                "frames are compared one by one, so all files must have the same number"
            )
        yield frames
