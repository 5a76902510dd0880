"""The schema: one place for every option, layers in order, one clear sentence for every mistake."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import yaml

from streamlight.config import Config, load_config, options, preset_names, render_defaults
from streamlight.errors import ConfigError
from streamlight.timecode import format_time, parse_time


def test_every_option_is_complete_and_unique():
    found = options()
    assert len({o.name for o in found}) == len(found)
    for option in found:
        assert option.help, option.key
        assert option.help.endswith("."), option.key
        assert option.expected, option.key


def test_default_preset_lists_exactly_the_schema():
    from importlib import resources

    text = resources.files("streamlight.configs").joinpath("default.yaml").read_text("utf-8")
    assert text == render_defaults(), "configs/default.yaml is stale: write streamlight.config.render_defaults() to it"
    assert {f"{s}.{k}" for s, keys in yaml.safe_load(text).items() for k in keys} == {o.key for o in options()}


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name):
    load_config(preset=name)


def test_presets_that_users_are_told_about_exist():
    assert {"default", "realtime", "quality"} <= set(preset_names())


def test_layers_win_in_order(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("output:\n  quality: 30\nmodel:\n  strength: 0.5\n")
    config = load_config(preset="quality", file=file, values={"strength": "0.25"})
    assert config.output.encoder_preset == "slow"  # preset
    assert config.output.quality == 30  # file over preset
    assert config.model.strength == 0.25  # option over file
    assert config.input.deinterlace == "auto"  # default
    assert load_config() == Config()


def test_yaml_words_and_times(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("input:\n  deinterlace: off\n  start: 1:30\n  end: '1:40.25'\noutput:\n  hardware: off\nrun:\n")
    config = load_config(file=file)
    assert (config.input.deinterlace, config.output.hardware) == ("off", "off")
    assert (config.input.start, config.input.end) == (90, Fraction(401, 4))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"strength": math.nan}, "--strength.*nan.*from 0"),
        ({"strength": math.inf}, "inf"),
        ({"strength": "nan"}, "nan"),
        ({"strength": -0.1}, r"-0\.1 is not allowed, expected a number from 0\.?0? to 1"),
        ({"strength": True}, "True"),
        ({"strength": "much"}, "much"),
        ({"quality": 101}, "whole number from 0 to 100"),
        ({"quality": "20.5"}, "whole number"),
        ({"codec": "hevk"}, "did you mean 'hevc'"),
        ({"device": "gpu"}, "cuda:N"),
        ({"model": ""}, "--model"),
        ({"start": "1:75"}, "hh:"),
        ({"start": -1}, "hh:"),
        ({"end": "nan"}, "hh:"),
        ({"start": 5, "end": 5}, "later"),
        ({"end": 0}, "later"),
        ({"segment_frames": 0}, "from 1"),
        ({"strenght": 1}, "did you mean 'strength'"),
        ({"encoder_preset": "a b"}, "encoder"),
        ({"tonemap": "perhaps"}, "yes or no"),
    ],
)
def test_wrong_values_are_named(values, says):
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(values=values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: {strenght: 1}", "unknown key 'model.strenght'; did you mean 'strength'"),
        ("strength: 1", "did you mean 'model.strength'"),
        ("modle: {}", "did you mean 'model'"),
        ("model: {quality: 3}", "did you mean 'output.quality'"),
        ("model: 3", "section"),
        ("- a", "sections"),
        ("a: [", "not valid YAML in line"),
        ("model: {strength: .nan}", "my.yaml: model.strength: nan"),
        ("model: {1: 2}", "unknown key 'model.1'"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, says):
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(file=file)
    assert str(file) in str(caught.value)


def test_missing_file_binary_file_unknown_preset(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(file=tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file=tmp_path / "b.yaml")
    with pytest.raises(ConfigError, match="did you mean 'realtime'"):
        load_config(preset="realtme")


def test_identity_holds_what_decides_the_output_and_nothing_else():
    base = load_config().identity()
    assert load_config(values={"overwrite": True, "resume": True, "queue_frames": 9}).identity() == base
    assert load_config(values={"strength": 0.5}).identity() != base
    assert load_config(values={"start": "0.1"}).identity()["input.start"] == "1/10"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (0.1, Fraction(1, 10)),
        ("1:02.5", Fraction(125, 2)),
        ("01:00:00.001", Fraction(3600001, 1000)),
        (Fraction(1001, 30000), Fraction(1001, 30000)),
        (None, None),
        ("1e1", 10),
    ],
)
def test_times_are_exact(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1:", ":1", "1:2:3:4", "-1", "nan", "inf", "1e999", "1:60", "1:60:00", True, "0x1"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"time|minutes"):
        parse_time(text)


def test_times_for_people():
    assert [format_time(s) for s in (0, 59.9, 61, 3600, Fraction(7325, 2))] == [
        "0:00",
        "0:59",
        "1:01",
        "1:00:00",
        "1:01:02",
    ]
