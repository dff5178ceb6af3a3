"""Logstash and Filebeat cannot run here: their files are parsed, and each option is a known one.

What is known is written down from their manuals (8.x).  Whether they do what is meant is not
tested anywhere; the path through rsyslog is (`tests/e2e/test_log_path.py`).
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from lscl.lang import LsclBlock, LsclConditions
from lscl.parser import parse_lscl

from tests.support.elastic import DEPLOY, field_types, template

PLUGINS: Final = {
    "input": {
        "tcp": {"host", "port", "codec", "ecs_compatibility", "mode", "ssl_enabled"},
        "beats": {"host", "port", "codec", "ecs_compatibility", "ssl_enabled"},
    },
    "filter": {
        "json": {"source", "target", "skip_on_invalid_json", "tag_on_failure"},
        "ruby": {"code", "init", "path", "tag_on_exception"},
        "mutate": {"remove_field", "convert", "rename", "add_field"},
        "date": {"match", "target", "timezone"},
    },
    "output": {
        "elasticsearch": {
            *("hosts", "index", "manage_template", "ilm_enabled", "data_stream"),
            *("ecs_compatibility", "user", "password", "api_key", "cacert"),
        }
    },
}


def pipeline() -> list[LsclBlock]:
    found: list[LsclBlock] = parse_lscl((DEPLOY / "logstash" / "logstash.conf").read_text())
    return found


def plugins(content: list[Any]) -> Iterator[LsclBlock]:
    for each in content:
        if isinstance(each, LsclConditions):
            for _, inner in each.conditions:
                yield from plugins(inner)
            yield from plugins(each.default or [])
        elif isinstance(each, LsclBlock):
            yield each


def options(block: LsclBlock) -> dict[str, Any]:
    return {each.name: each.content for each in block.content}


def test_logstash_parses_it_and_knows_each_plugin_and_option() -> None:
    sections = pipeline()
    assert [section.name for section in sections] == ["input", "filter", "output"]
    for section in sections:
        for plugin in plugins(section.content):
            known = PLUGINS[section.name][plugin.name]
            assert options(plugin).keys() <= known, plugin.name


def test_logstash_takes_lines_by_tcp_and_from_filebeat_and_names_the_days_index() -> None:
    inputs, _, outputs = ({p.name: options(p) for p in plugins(s.content)} for s in pipeline())
    assert inputs["tcp"]["codec"] == "json_lines"
    assert inputs["beats"]["port"] == 5044
    assert inputs["tcp"]["port"] != 5044, "that port speaks the protocol of Beats, not JSON"
    assert outputs["elasticsearch"]["index"] == "model-api-logs-%{+YYYY.MM.dd}"
    assert outputs["elasticsearch"]["manage_template"] == "false"


def test_logstash_computes_the_throughput_where_a_line_lacks_it() -> None:
    (ruby,) = [p for p in plugins(pipeline()[1].content) if p.name == "ruby"]
    code = options(ruby)["code"]
    assert "event.set('throughput_tokens_per_sec', (tokens * 1000 / latency_ms).round(1))" in code
    assert set(re.findall(r"event\.get\('(\w+)'\)", code)) == {"tokens_generated", "latency_ms"}
    assert "if latency_ms > 0" in code


def test_logstash_asks_for_fields_that_lines_have() -> None:
    known = {*dict(field_types(template()["template"]["mappings"]["properties"])), "host"}
    named = set(re.findall(r"LsclSelector\(names=\['(\w+)'", repr(pipeline())))
    assert {"latency_ms", "tokens_generated"} <= named <= known


def settings(found: Any, prefix: str = "") -> Iterator[str]:
    """Yield each setting by its whole name; Beats takes dots for nesting."""
    if isinstance(found, dict):
        for name, inner in found.items():
            yield from settings(inner, f"{prefix}{name}.")
    elif isinstance(found, list) and any(isinstance(each, dict) for each in found):
        for each in found:
            yield from settings(each, prefix)
    else:
        yield prefix.removesuffix(".")


KNOWN: Final = {
    *(f"filebeat.inputs.{name}" for name in ("type", "id", "paths", "exclude_files")),
    "filebeat.inputs.file_identity.fingerprint",
    "filebeat.inputs.prospector.scanner.fingerprint.enabled",
    "filebeat.inputs.close.on_state_change.inactive",
    *(
        f"filebeat.inputs.parsers.ndjson.{name}"
        for name in ("target", "overwrite_keys", "expand_keys", "add_error_key", "message_key")
    ),
    "queue.disk.max_size",
    "processors.add_host_metadata.netinfo.enabled",
    *("output.logstash.hosts", "output.elasticsearch.hosts", "output.elasticsearch.index"),
    *("setup.template.enabled", "setup.ilm.enabled"),
}


def test_filebeat_knows_each_setting() -> None:
    text = (DEPLOY / "filebeat" / "filebeat.yml").read_text()
    assert set(settings(yaml.safe_load(text))) <= KNOWN


def test_filebeat_without_logstash_is_the_same_file_with_one_part_changed() -> None:
    text = (DEPLOY / "filebeat" / "filebeat.yml").read_text()
    with_logstash = 'output.logstash:\n  hosts: ["127.0.0.1:5044"]\n'
    assert with_logstash in text
    direct = re.sub(
        r"^# (output\.elasticsearch|  )", r"\1", text.replace(with_logstash, ""), flags=re.MULTILINE
    )
    found = yaml.safe_load(direct)
    assert set(settings(found)) <= KNOWN
    assert found["output.elasticsearch"]["index"] == "model-api-logs-%{+yyyy.MM.dd}"


def test_filebeat_reads_the_lines_into_the_document_and_does_not_name_indices_itself() -> None:
    found = yaml.safe_load((DEPLOY / "filebeat" / "filebeat.yml").read_text())
    (read,) = found["filebeat.inputs"]
    assert read["type"] == "filestream"
    assert read["parsers"][0]["ndjson"]["target"] == ""
    assert found["setup.template.enabled"] is found["setup.ilm.enabled"] is False
