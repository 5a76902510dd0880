"""Parts of the report that the command line does not reach."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from streamlight.config import load_config
from streamlight.errors import ConfigError
from streamlight.evaluation.contenders import of_config
from streamlight.evaluation.images import evaluate_images
from streamlight.media.stillmeta import is_cut_off
from tests.evaluation.pictures import scene, write


def test_no_pairs() -> None:
    with pytest.raises(ConfigError, match="no pairs"):
        evaluate_images([], contender=of_config(load_config()))


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_files_that_end_too_early(progressive: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 4]
    assert cv2.imwrite(str(path), scene(90, 70), flags)
    data = path.read_bytes()
    assert not is_cut_off(path)
    path.write_bytes(data + bytes.fromhex("ffda0008ff00ffda"))  # phones append clips
    assert not is_cut_off(path)
    thumbnail = b"\xff\xe1\x00\x08\xff\xd8\xff\xd9\x00\x00"
    for part in (0.1, 0.5, 0.95):
        path.write_bytes(data[:2] + thumbnail + data[2 : int(len(data) * part)])
        assert is_cut_off(path)
    path.write_bytes(data[:2] + thumbnail + data[2:])
    assert not is_cut_off(path)
    assert not is_cut_off(write(tmp_path / "a.png", scene(9, 9)))
