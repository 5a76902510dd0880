"""The service unit and the compose file that users copy name only what there is."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from streamlight.cli._main import group
from streamlight.config import preset_names

REPO = Path(__file__).resolve().parents[2]


def check_command(words: list[str]) -> None:
    """``streamlight live …`` with options and a preset that exist."""
    start = next(i for i, word in enumerate(words) if word.endswith("/streamlight") and words[i + 1] == "live")
    text = CliRunner().invoke(group, ["live", "--help"]).output
    options = [word for word in words[start + 2 :] if word.startswith("--")]
    assert {"--preset", "--config", "--record", "--metrics"} <= set(options)
    assert [word for word in options if f"{word} " not in text] == []
    assert words[words.index("--preset") + 1] in preset_names()


def test_the_service_unit() -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    text = (REPO / "pipelines" / "streamlight-live.service").read_text("utf-8")
    unit.read_string(text.replace("\\\n", " "))
    service = unit["Service"]
    check_command(shlex.split(service["ExecStart"]))
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= 5
    assert set(unit.sections()) == {"Unit", "Service", "Install"}


def test_the_compose_file() -> None:
    compose: dict[str, Any] = yaml.safe_load((REPO / "pipelines" / "compose.yaml").read_text("utf-8"))
    service = compose["services"]["streamlight"]
    check_command(shlex.split(service["command"][-1].replace("{", "").replace("}", "")))
    port = service["ports"][0]
    assert port.startswith("127.0.0.1:")
    assert f":{port.rpartition(':')[2]}/healthz" in " ".join(service["healthcheck"]["test"])
    assert {mount.partition(":")[0] for mount in service["volumes"] if not mount.startswith("./")} == set(
        compose["volumes"]
    )
    assert int(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1]) >= 5  # type: ignore[index]
