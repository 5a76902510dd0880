"""Put what ``streamlight bench`` printed into the README, unchanged.

streamlight bench --json docs/bench.json > docs/bench.txt
python docs/insert_bench.py
"""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- bench -->\n).*?(<!-- end of bench -->)", re.DOTALL)


def block(printed: str) -> str:
    """The README's block for an output."""
    text = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return f"```text\n{text}\n```\n"


def main() -> None:
    """Rewrite README.md in place."""
    readme = REPO / "README.md"
    text = block((REPO / "docs" / "bench.txt").read_text(encoding="utf-8"))
    old = readme.read_text(encoding="utf-8")
    readme.write_text(BLOCK.sub(lambda found: found[1] + text + found[2], old), encoding="utf-8")


if __name__ == "__main__":
    main()
