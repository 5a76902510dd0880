"""The README says nothing that the product does not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from docs.insert_printed import BLOCK, PAGES, inserted
from streamlight.config import load_config, options, preset_names

REPO = Path(__file__).resolve().parent.parent
README = (REPO / "README.md").read_text(encoding="utf-8")


def test_ci_finds_exactly_the_two_commands() -> None:
    commands = re.findall(r"^python3 -m venv.*$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    enhance, test = commands
    assert enhance.endswith("streamlight enhance samples/drive.mp4 -o bright.mp4")
    assert test.endswith("-m pytest")
    assert "^python3 -m venv" in (REPO / ".ci" / "run").read_text(encoding="utf-8")


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPO / target).exists(), target


def test_presets_are_all_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)
    assert sorted(listed) == preset_names()
    assert load_config(preset="realtime").output.encoder_preset == "ultrafast"


def test_options_in_examples_exist() -> None:
    known = {option.flag for option in options()} | {"--preset", "--config", "--json", "--debug", "--help", "--data"}
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL))
    lines = [line.split("#")[0] for line in shell.splitlines() if line.startswith("streamlight ")]
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line)
        assert (REPO / "streamlight" / "cli" / f"{words[1]}.py").exists(), line
        assert {word for word in words if word.startswith("--")} <= known, line
    for flag in set(re.findall(r"`(--[a-z-]+)", README)):
        assert flag in known | {"--cases"}, flag


def test_figures_are_what_commands_printed() -> None:
    """docs/insert_printed.py copies docs/bench.txt and its like word for word; figures change only with a new run."""
    for page in (REPO / name for name in PAGES):
        text = page.read_text(encoding="utf-8")
        assert BLOCK.search(text), page
        assert inserted(text, REPO / "docs") == text


def test_marks_are_filled_from_files_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1  \n2\n")
    (tmp_path / "b.md").write_text("| x |\n")
    text = "<!-- a -->\nold\n<!-- end of a -->\n<!-- b -->\n<!-- end of b -->\n<!-- c -->\nstays<!-- end of c -->\n"
    assert inserted(text, tmp_path) == (
        "<!-- a -->\n```text\n1\n2\n```\n<!-- end of a -->\n<!-- b -->\n| x |\n<!-- end of b -->\n"
        "<!-- c -->\nstays<!-- end of c -->\n"
    )
