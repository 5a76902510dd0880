from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.mutate import MUTATIONS, mutate
from tests.fuzz.run import run_cases
from tests.fuzz.seeds import make_seeds

CASES = 600


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    make_seeds(folder)
    return folder


@pytest.mark.timeout(600)
def test_damaged_files_end_in_an_error_or_a_valid_file(seeds: Path) -> None:
    result = run_cases(seeds, CASES)
    assert not result.failures, "\n".join(result.failures)
    assert sum(result.outcomes.values()) == CASES
    assert result.outcomes["done"] > CASES // 10, "too few files survive: the cases no longer reach the decoder"
    assert result.outcomes["refused"] > CASES // 20


def test_undamaged_seeds_go_through(seeds: Path, tmp_path: Path) -> None:
    import streamlight
    from tests.fuzz.worker import check_output

    for path in sorted(seeds.iterdir()):
        target = tmp_path / (path.stem + "_out" + (path.suffix if path.suffix in (".png", ".jpg") else ".mkv"))
        report = streamlight.enhance_video(path, target, overwrite=True)
        if target.suffix == ".mkv":
            assert report.frames["out"] == report.frames["in"] > 0
            check_output(target, report.frames["out"], path.name)


@pytest.mark.parametrize("change", MUTATIONS, ids=lambda change: change.__name__)
def test_mutations_change_something_and_repeat(change) -> None:  # type: ignore[no-untyped-def]
    data = random.Random(0).randbytes(3000) + b"moov" + bytes(100)
    results = []
    for _ in range(2):
        outs = []
        for number in range(20):
            out = bytearray(data)
            change(out, random.Random(number))
            outs.append(bytes(out))
        results.append(outs)
    assert results[0] == results[1]
    assert sum(out != data for out in results[0]) >= 15
    assert mutate(b"", random.Random(1)) == (b"", "")
