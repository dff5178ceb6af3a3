"""The index template knows each field that a line may have, by a type that takes its values."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import forebay
from forebay.monitoring import kibana
from forebay.telemetry.log_formats import Json, head_of
from forebay.telemetry.log_line import Line, constant_part, event_fields
from forebay.telemetry.process_use import Use
from tests.support.elastic import DEPLOY, field_types, template

TYPES: Final[dict[type, set[str]]] = {
    str: {"keyword", "text", "date", "ip"},
    int: {"long"},
    float: {"double"},
    bool: {"boolean"},
}
"""What a value may be to Elasticsearch."""
SHARES_MAX: Final = 32_766
"""Lucene takes no longer term, in bytes; a character has four at most."""


def mapping() -> dict[str, Any]:
    found: dict[str, Any] = template()["template"]["mappings"]
    return found


def known() -> dict[str, str]:
    return dict(field_types(mapping()["properties"]))


def tail() -> dict[str, Any]:
    """Return what is common to all lines, as it is written."""
    format_ = Json(constant_part("production"))
    format_.used(Use(cpu_percent=1.5, memory_mb=2.5))
    line = format_.event(head_of("t", "info", "m"), {})
    common: dict[str, Any] = json.loads(line) | json.loads(b"{" + format_._tail[1:])
    return common


def fields() -> Iterator[tuple[str, type]]:
    for field in msgspec.structs.fields(Line):
        types = getattr(field.type, "__args__", (field.type,))
        (its_type,) = (each for each in types if each is not type(None))
        yield field.encode_name, its_type
    for name, value in tail().items():
        yield name, type(value)


@pytest.mark.parametrize(("name", "its_type"), sorted(set(fields()), key=str))
def test_each_field_of_a_line_is_mapped_to_a_type_that_takes_it(name: str, its_type: type) -> None:
    assert known()[name] in TYPES[its_type], name


def test_no_field_is_mapped_that_nothing_writes() -> None:
    written = {name for name, _ in fields()} | set(event_fields(dict.fromkeys(EVENT_NAMES)))
    assert known().keys() <= written


def test_no_name_is_a_field_and_the_folder_of_another() -> None:
    names = {name for name, _ in fields()} | known().keys()
    for name in names:
        assert not any(other.startswith(f"{name}.") for other in names), name


EVENT_NAMES: Final = ("request_id", "error", "trace", "logger", "pid", "user", "reason", "after_s")


def events() -> Iterator[tuple[str, str]]:
    """Yield each field of an event in the sources, with the file that writes it."""
    for file in Path(forebay.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                text = node.args[0].value
                if isinstance(text, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+", text):
                    yield from ((each.arg, file.name) for each in node.keywords if each.arg)


def test_a_field_of_an_event_never_meets_a_field_of_a_request() -> None:
    requests = {name.removeprefix("forebay.") for name, _ in fields() if name[:8] == "forebay."}
    found = set(events())
    assert len(found) > 30, "the sources were found"
    for name, file in found:
        assert name not in requests, f"{file}: forebay.{name} is a field of requests' lines"


def test_a_field_of_an_event_is_a_number_if_a_unit_is_in_its_name_and_else_a_word() -> None:
    number, word, _ = (next(iter(each.values())) for each in mapping()["dynamic_templates"])
    assert number["path_match"] == word["path_match"] == "forebay.*"
    assert number["mapping"] == {"type": "double", "ignore_malformed": True}
    assert word["mapping"]["type"] == "keyword"
    for name in ("after_s", "latency_ms", "body_bytes"):
        assert re.match(number["match"], name)
    for name in ("reason", "model", "requests", "lines"):
        assert not re.match(number["match"], name)


def test_no_word_is_too_long_for_the_index() -> None:
    lengths = re.findall(r'"ignore_above": (\d+)', json.dumps(template()))
    assert lengths
    assert all(int(length) * 4 <= SHARES_MAX for length in lengths)


def test_the_policy_and_the_names_that_lead_to_it_agree() -> None:
    folder = DEPLOY / "elasticsearch"
    script = (folder / "apply.sh").read_text()
    named = json.loads((folder / "lifecycle.json").read_text())
    policy = named["template"]["settings"]["index"]["lifecycle"]["name"]
    assert f"put _ilm/policy/{policy} ilm-policy.json" in script
    (component,) = template()["composed_of"]
    assert script.count(f"_component_template/{component} ") == 2
    assert template()["index_patterns"] == [kibana.INDEX]
    for file in re.findall(r"\S+\.json", script):
        assert (folder / file).is_file()


def test_the_policy_deletes_what_is_old_and_knows_its_phases() -> None:
    policy = json.loads((DEPLOY / "elasticsearch" / "ilm-policy.json").read_text())["policy"]
    actions = {
        "hot": {"set_priority", "rollover", "readonly", "forcemerge", "shrink"},
        "warm": {"set_priority", "readonly", "allocate", "migrate", "shrink", "forcemerge"},
        "delete": {"wait_for_snapshot", "delete"},
    }
    for phase, facts in policy["phases"].items():
        assert re.fullmatch(r"\d+(ms|s|m|h|d)", facts["min_age"])
        assert facts["actions"].keys() <= actions[phase]
    assert policy["phases"]["delete"]["actions"] == {"delete": {}}


def test_the_page_on_logging_explains_each_field_of_a_request_and_no_other() -> None:
    page = (DEPLOY.parents[1] / "docs" / "logging.md").read_text()
    table = page.partition("| Field |")[2].partition("\n\n")[0]
    explained = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([@a-z_.]+)`", row.split("|")[1] if "|" in row else "")
    }
    assert explained == {name for name, _ in fields()}


def test_the_line_on_the_page_has_the_fields_that_lines_have() -> None:
    page = (DEPLOY.parents[1] / "docs" / "logging.md").read_text()
    (shown,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    line = json.loads(shown)
    types = dict(fields())
    for name, value in line.items():
        assert isinstance(value, types[name]), name
