"""Put what commands printed into the README and the pages, unchanged.

Between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` goes ``docs/NAME.txt`` as a text block, or ``docs/NAME.md`` as it
is.

streamlight bench --json docs/bench.json > docs/bench.txt
streamlight evaluate table --data DATA -o docs/quality.md --json docs/quality.json --cards
streamlight bench live faults latency overload cameras publish --json docs/bench_live.json > docs/bench_live.txt
streamlight bench live soak --minutes 30 --json docs/bench_live_soak.json > docs/bench_live_soak.txt
python docs/insert_printed.py
"""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/live.md")
BLOCK = re.compile(r"(?P<head><!-- (?P<name>\w+) -->\n).*?(?P<tail><!-- end of (?P=name) -->)", re.DOTALL)


def block(name: str, docs: Path) -> str | None:
    """What belongs between the marks of that name; None where nothing has been printed yet."""
    for suffix, frame in ((".txt", "```text\n{}\n```\n"), (".md", "{}\n")):
        file = docs / f"{name}{suffix}"
        if file.is_file():
            lines = file.read_text(encoding="utf-8").strip().splitlines()
            # Markdown knows two spaces at the end of a line; in text they are leftovers of columns.
            return frame.format("\n".join(lines if suffix == ".md" else map(str.rstrip, lines)))
    return None


def inserted(text: str, docs: Path) -> str:
    """A page with every block that there is a file for."""

    def fill(found: re.Match[str]) -> str:
        new = block(found["name"], docs)
        return found[0] if new is None else found["head"] + new + found["tail"]

    return BLOCK.sub(fill, text)


def main() -> None:
    """Rewrite the pages in place."""
    for page in (REPO / name for name in PAGES):
        page.write_text(inserted(page.read_text(encoding="utf-8"), REPO / "docs"), encoding="utf-8")


if __name__ == "__main__":
    main()
