"""What is installed: wheel, editable install and source archive, built here and tried in empty environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHIPPED = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "streamlight", "pipelines", "configs", "samples")

CHECK = """
import sys, pathlib
import streamlight, streamlight.pipelines, streamlight.configs
from importlib import resources
where = pathlib.Path(streamlight.__file__).resolve()
presets = sorted(p.name for p in resources.files("streamlight.configs").iterdir() if p.name.endswith(".yaml"))
assert "default.yaml" in presets and "realtime.yaml" in presets, presets
text = resources.files("streamlight.configs").joinpath("default.yaml").read_text(encoding="utf-8")
from streamlight.config import load_config
assert load_config(preset="realtime") != load_config(preset="default")
assert (where.parent / "py.typed").exists()
print(where)
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the repository, so that nothing is built inside the checkout."""
    folder = tmp_path_factory.mktemp("tree")
    for name in (*SHIPPED, "tests"):
        source = REPO / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, tree)
    (path,) = out.glob("*.whl")
    return path


def empty_environment(folder: Path) -> Path:
    """A virtual environment that holds links to this interpreter's packages, but no trace of streamlight."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "streamlight" not in package.name and package.suffix != ".pth":
            (site / package.name).symlink_to(package)
    return python


def test_wheel_holds_the_mapped_folders(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"streamlight/pipelines/__init__.py", "streamlight/configs/default.yaml", "streamlight/py.typed"} <= names
    assert "streamlight/configs/train/held_out.txt" in names
    weights = {f"streamlight/weights/{file.name}" for file in (REPO / "streamlight" / "weights").glob("*.*")}
    assert weights == {name for name in names if name.startswith("streamlight/weights/")}
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"streamlight"}


def test_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "env")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    where = run(python, "-c", CHECK, cwd=tmp_path).strip()
    assert where.startswith(str((tmp_path / "env").resolve()))
    assert "streamlight" in run(python.parent / "streamlight", "--version", cwd=tmp_path)
    assert "enhance" in run(python, "-m", "streamlight", "--help", cwd=tmp_path)


def test_editable_install_works(tree: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "env")
    install = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
    run(*install, "--no-build-isolation", "-e", tree)
    where = run(python, "-c", CHECK, cwd=tmp_path).strip()
    assert where == str((tree / "streamlight" / "__init__.py").resolve())
    (tree / "pipelines" / "added_later.py").write_text("VALUE = 7\n", encoding="utf-8")
    code = "from streamlight.pipelines import added_later; print(added_later.VALUE)"
    assert run(python, "-c", code, cwd=tmp_path).strip() == "7"
    (tree / "pipelines" / "added_later.py").unlink()


def test_source_archive_is_complete(tree: Path, tmp_path: Path) -> None:
    code = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    run(sys.executable, "-c", code, cwd=tree)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    for folder in (*SHIPPED[4:], "tests"):
        for file in (tree / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".yaml", ".mp4", ".md", ".txt", ".typed", ".safetensors"):
                if {"__pycache__", "build"} & set(file.parts) or ".egg-info" in str(file):
                    continue
                assert file.relative_to(tree).as_posix() in names
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names
