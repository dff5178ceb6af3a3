"""Where the objectives come from: the package, or the operator's file."""

from pathlib import Path

import pytest

from forebay.policy.slo_spec import SpecError
from forebay.serve.slo_file import BUILT_IN, FILE_BYTES_MAX, SloConfig, misfits, read_spec
from forebay.settings import ConfigurationError, Sources, load


def named(path: Path) -> SloConfig:
    return SloConfig(file=str(path))


def test_without_a_file_the_objectives_are_the_packages() -> None:
    spec = read_spec(SloConfig())
    assert spec.service == "forebay"
    assert {"availability_interactive", "ttft_batch", "stream_completeness"} <= {
        goal.name for goal in spec.goals
    }
    assert all(goal.description for goal in spec.goals)


def test_a_file_of_ones_own_replaces_them(tmp_path: Path) -> None:
    own = tmp_path / "slo.yaml"
    own.write_text(BUILT_IN.read_text(encoding="utf-8").replace("goal: 0.995", "goal: 0.9975"))
    goals = {goal.name: goal.goal for goal in read_spec(named(own)).goals}
    assert goals["availability_interactive"] == 0.9975
    assert list(misfits(named(own))) == []


@pytest.mark.parametrize(
    ("content", "key", "fix"),
    [
        (b"service: [", "line 1", "not YAML"),
        (b"\xff\xfe", "the file", "not UTF-8"),
        (b"service: a\nservice: b\n", "line 2", "service stands twice"),
        (b"- 1", "the file", "keys with values"),
        (b"#" * (FILE_BYTES_MAX + 1), "the file", "longer than 65536 bytes"),
        (b"!!python/object/apply:os.getcwd []", "line 1", "not YAML"),
        (b"service: a\nwindow: 2026-99-99\n", "line 2", "a value cannot be read"),
        (b"window: !!bool thirty\n", "line 1", "a value cannot be read"),
        (b"window: " + b"9" * 5_000, "line 1", "a value cannot be read"),
        (b"? [window, service]\n: 30d\n", "line 1", "unhashable key"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes, key: str, fix: str) -> None:
    file = tmp_path / "slo.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError) as raised:
        read_spec(named(file))
    assert raised.value.key == key
    assert fix in raised.value.text


@pytest.mark.parametrize("name", ["~nobody-of-that-name/slo.yaml", "slo\0.yaml", "slo\ud800.yaml"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    ((key, text),) = misfits(SloConfig(file=name))
    assert key == "slo.file"
    assert "No file can have this name" in text


def test_a_start_with_wrong_objectives_is_refused_with_the_key_and_the_fix(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(BUILT_IN.read_text(encoding="utf-8").replace("at_most_s: 2.0", "at_most_s: 0"))
    with pytest.raises(ConfigurationError) as raised:
        load(Sources(assignments=(f"slo.file={file}",)))
    (problem,) = raised.value.problems
    assert problem.set_by == "--set slo.file"
    assert "objectives.ttft_interactive.at_most_s: Write a number above 0" in problem.text


def test_a_file_that_is_not_there_stops_the_start_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load(Sources(assignments=(f"slo.file={tmp_path / 'none.yaml'}",)))
