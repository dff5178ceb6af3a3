import json
import re

import pytest

from forebay.monitoring import kibana
from tests.support.elastic import DEPLOY, charts, field_types, saved_objects, template


def test_the_file_in_the_repository_is_what_the_program_writes() -> None:
    written = (DEPLOY / "kibana" / "forebay.ndjson").read_text()
    assert written == kibana.saved_objects(), "write kibana.saved_objects() there"


def test_whatever_is_referred_to_is_in_the_file_and_before() -> None:
    seen: set[tuple[str, str]] = set()
    for each in saved_objects():
        for reference in each["references"]:
            assert (reference["type"], reference["id"]) in seen
        assert (each["type"], each["id"]) not in seen
        seen.add((each["type"], each["id"]))
    assert [type_ for type_, _ in sorted(seen)].count("visualization") == 4


def test_each_name_of_a_reference_is_used_and_each_use_has_one() -> None:
    for each in saved_objects():
        text = json.dumps(each["attributes"])
        used = set(re.findall(r'(?:indexRefName|panelRefName)\\+": \\+"([^"\\]+)', text))
        named = {
            reference["name"].partition(":")[2] or reference["name"]
            for reference in each["references"]
        }
        assert used == named


def test_texts_within_texts_are_json() -> None:
    for each in saved_objects():
        if each["type"] == "index-pattern":
            assert each["attributes"]["title"] == "model-api-logs-*"
            assert each["attributes"]["timeFieldName"] == "@timestamp"
            continue
        attributes = each["attributes"]
        for name in ("visState", "uiStateJSON", "panelsJSON", "optionsJSON"):
            if name in attributes:
                json.loads(attributes[name])
        json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])


def test_panels_do_not_lie_over_each_other() -> None:
    (dashboard,) = [each for each in saved_objects() if each["type"] == "dashboard"]
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
        place = panel["gridData"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        assert all(0 <= x < 48 for x, _ in cells)
        taken |= cells


def test_the_four_charts_of_the_first_source_document_are_there() -> None:
    assert list(charts()) == [
        "Latency over time",
        "Request volume",
        "Error rate",
        "Throughput distribution",
    ]


@pytest.mark.parametrize("title", list(charts()))
def test_a_chart_asks_only_for_fields_that_the_template_names(title: str) -> None:
    known = dict(field_types(template()["template"]["mappings"]["properties"]))
    for each in charts()[title]:
        if "field" in each["params"]:
            assert known[each["params"]["field"]] in {"date", "long", "double", "keyword"}
        for one in each["params"].get("filters", ()):
            assert one["input"]["query"].partition(":")[0] in known


def test_the_index_of_all_parts_is_one() -> None:
    assert template()["index_patterns"] == [kibana.INDEX]
    prefix = kibana.INDEX.removesuffix("*")
    for file in ("rsyslog/rsyslog.conf", "logstash/logstash.conf", "filebeat/filebeat.yml"):
        assert prefix in (DEPLOY / file).read_text(), file
