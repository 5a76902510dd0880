"""One still image."""

from __future__ import annotations

import os
from pathlib import Path

from streamlight.config import Config
from streamlight.engine import Report
from streamlight.enhance import Enhancer
from streamlight.enhance.compare import compare_planes
from streamlight.enhance.highlights import protect_highlights
from streamlight.errors import MediaError
from streamlight.media import as_path, check_destination, open_source, write_still
from streamlight.media.stillmeta import is_cut_off


class ImageJob:
    """Enhances one image file; made for one :meth:`run`.

    Args:
        source: Input file.
        destination: Output file; its suffix chooses the format.
        config: The configuration in force. Codec settings say nothing about images, except quality.
        enhancer: Made for that configuration; is not closed.
        report: Filled in on the way.
    """

    def __init__(
        self, source: str | os.PathLike[str], destination: Path, config: Config, enhancer: Enhancer, report: Report
    ) -> None:
        self._source = source
        self._destination = destination
        self._config = config
        self._enhancer = enhancer
        self._report = report

    def run(self) -> None:
        """Do the job.

        Raises:
            StreamlightError: As :func:`streamlight.enhance_video` says.
        """
        run, report = self._config.run, self._report
        if run.resume and not run.overwrite and self._destination.is_file():
            report.status = "already-done"
            report.warn("already-done", f"{self._destination} is there; images are done at once or not at all")
            return
        check_destination(as_path(self._source), self._destination, overwrite=run.overwrite)
        settings, output = self._config.input, self._config.output
        with open_source(self._source, tonemap=settings.tonemap, threads=settings.decoder_threads) as source:
            frame = next(source.frames(), None)
            if frame is None:
                raise MediaError(f"'{source.info.url}': no picture can be decoded")
            before = frame.planes
            self._enhancer([frame], [self._enhancer.new_state()])
            protect_highlights(frame, before, amount=self._config.model.highlights)
            if output.compare:
                frame.planes = compare_planes(before, frame.planes, frame.color, layout=output.compare_layout)
            written = write_still(
                frame,
                self._destination,
                info=source.info,
                source=as_path(self._source),
                quality=output.quality,
                overwrite=run.overwrite,
            )
            report.codecs = {
                "decoder": source.info.codec,
                "input_pix_fmt": source.info.pix_fmt,
                "output_pix_fmt": written.pix_fmt,
            }
        path = as_path(self._source)
        damaged = frame.damaged or (path is not None and is_cut_off(path))
        report.frames = {"in": 1, "out": 1, "damaged": int(damaged)}
        for loss in written.losses:
            report.warn("picture", loss)
        report.status = "done"
