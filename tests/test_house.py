"""The arrows of the design, read off the imports: who may know whom, and which library lives where."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

LOW = {"media", "engine", "models", "temporal"}
MIDDLE = {"live", "enhance", "detect"}
ALLOWED: dict[str, set[str]] = {
    **{room: set() for room in LOW},
    **{room: LOW for room in MIDDLE},
    "configs": set(),
    "pipelines": LOW | MIDDLE,
    "training": LOW | MIDDLE | {"pipelines", "configs"},
    "evaluation": LOW | MIDDLE | {"pipelines", "configs", "training"},
    "cli": LOW | MIDDLE | {"pipelines", "configs", "training", "evaluation"},
}
"""Rooms that each room may import, besides itself and the foundations."""

OF_TRAINING = ("streamlight.training.data", "streamlight.training.degradation")
"""What evaluation may know of training: where pictures come from, and how they are darkened; nothing of the runs."""

LIBRARIES: dict[str, set[str]] = {
    "av": {"media", "live"},
    "torch": {"engine", "models", "temporal", "enhance", "detect", "training", "evaluation"},
    "triton": {"models", "enhance"},
    "kornia": {"models", "temporal", "enhance", "training", "evaluation"},
    "safetensors": {"models", "training"},
    "click": {"cli"},
}
"""Rooms that may import a library; one that is not listed may be imported anywhere."""

HEAVY = ("av", "cv2", "kornia", "numba", "numpy", "torch", "pydantic", "safetensors")


def modules() -> Iterator[tuple[str, str, Path]]:
    """Every module of the package as (dotted name, room, file); the room of a foundation is empty."""
    roots = {"streamlight": REPO / "streamlight"}
    roots |= {f"streamlight.{name}": REPO / name for name in ("pipelines", "configs")}
    for package, folder in roots.items():
        for file in sorted(folder.rglob("*.py")):
            parts = [*package.split("."), *file.relative_to(folder).with_suffix("").parts]
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            inside = package != "streamlight" or file.parent != folder
            yield ".".join(parts), parts[1] if inside else "", file


def imported(name: str, file: Path) -> Iterator[tuple[str, int]]:
    """Absolute names that a module imports anywhere, also inside functions, with their lines."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, node.lineno


MODULES = list(modules())


def test_every_room_has_a_rule() -> None:
    assert {room for _, room, _ in MODULES if room} <= set(ALLOWED)


@pytest.mark.parametrize(("name", "room", "file"), MODULES, ids=[name for name, _, _ in MODULES])
def test_arrows_point_one_way(name: str, room: str, file: Path) -> None:
    wrong = []
    for target, line in imported(name, file):
        if not target.startswith("streamlight."):
            continue
        other = target.split(".")[1]
        if other not in ALLOWED or other == room:
            continue  # a foundation, a name of the package itself, or the same room
        if not room and (name in ("streamlight", "streamlight.__main__") or other == "configs"):
            continue  # the package names its public functions, and the schema finds its presets
        if other not in ALLOWED.get(room, set()):
            wrong.append(f"line {line}: {room or name} must not import {target}")
    assert not wrong


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, room, file in MODULES if room == "evaluation"])
def test_evaluation_knows_the_data_of_training_only(name: str, file: Path) -> None:
    for target, line in imported(name, file):
        if target.startswith("streamlight.training"):
            assert f"{target}.".startswith(tuple(f"{part}." for part in OF_TRAINING)), f"line {line}: {target}"


@pytest.mark.parametrize(("name", "room", "file"), MODULES, ids=[name for name, _, _ in MODULES])
def test_libraries_stay_in_their_rooms(name: str, room: str, file: Path) -> None:
    wrong = [
        f"line {line}: {target}"
        for target, line in imported(name, file)
        if (rooms := LIBRARIES.get(target.split(".")[0])) is not None and room not in rooms
    ]
    assert not wrong


@pytest.mark.parametrize(("name", "room", "file"), MODULES, ids=[name for name, _, _ in MODULES])
def test_cuda_streams_are_the_engine_s(name: str, room: str, file: Path) -> None:
    if room == "engine":
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("Stream", "stream", "current_stream"):
            assert ast.unparse(node.value) not in ("torch.cuda", "cuda"), f"line {node.lineno}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from streamlight.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.rstrip().endswith("HEAVY []")
    assert "enhance" in run.stdout


def test_every_package_folder_is_listed() -> None:
    tool = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {name if file.name == "__init__.py" else name.rpartition(".")[0] for name, _, file in MODULES}
    assert set(tool["packages"]) == folders


def test_no_machine_path_in_what_is_shipped() -> None:
    wrong = []
    for folder in ("streamlight", "pipelines", "configs", "samples", "docs"):
        for file in (REPO / folder).rglob("*"):
            if file.suffix in (".py", ".md", ".yaml", ".json") and "/work/" in file.read_text(encoding="utf-8"):
                wrong.append(str(file.relative_to(REPO)))
    assert not wrong


def test_the_check_itself_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from ..engine import rows\n    import av.codec\n")
    assert [target for target, _ in imported("streamlight.media.x", file)] == ["streamlight.engine.rows", "av.codec"]
