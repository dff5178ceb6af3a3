"""Who runs the commands that our documents show: the command, and the test or script of ours.

A document's fenced commands are promises.  `test_documents.py` fails on a command that is not in
this list, and on an entry whose test is gone.
"""

from typing import Final

_README: Final = "tests/e2e/test_readme.py::test_make_serve_and_the_curl_example_answer"

_DRILLS: Final = "tests/unit/cli/test_measuring.py::test_the_documented_commands_are_understood"

_RECEIPT: Final = "tests/unit/cli/test_receipts.py::test_the_documented_commands_are_understood"

_BUDGETS: Final = "tests/unit/cli/test_usage.py::test_the_documented_commands_are_understood"

_MONITORING: Final = (
    "tests/contract/test_written_monitoring.py::test_the_documented_commands_do_what_they_say"
)

_LOG_PATH: Final = "tests/e2e/test_log_path.py::test_the_documented_commands_find_a_request"

_ACCOUNTS: Final = (
    "tests/e2e/test_accounts_page.py::test_the_pages_commands_lead_from_nothing_to_an_answer"
)

_CHECKED: Final = (
    "tests/e2e/test_check_monitoring.py::test_nothing_is_missing_of_a_whole_deployment"
)

RUN_BY: Final[dict[str, str]] = {
    "forebay users create prometheus --role metrics-reader": _CHECKED,
    "forebay keys create --user prometheus": _CHECKED,
    "forebay check-monitoring http://127.0.0.1:8000 --prometheus http://127.0.0.1:9090 "
    "--alertmanager http://127.0.0.1:9093 --send-test-alert": _CHECKED,
    "make serve": _README,
    "make test": ".ci/run",
    "forebay drill --list": _DRILLS,
    "forebay drill worker vanish --quick": _DRILLS,
    "forebay drill alerts --only ForebayDown": _DRILLS,
    "forebay drill --json drills.json": _DRILLS,
    "forebay budgets set user:ada 500_000 --per day": _BUDGETS,
    "forebay budgets set tenant:acme 25.50 --money": _BUDGETS,
    "forebay budgets list": _BUDGETS,
    "forebay usage --csv --by day,model": _BUDGETS,
    "forebay budgets remove user:ada --per day": (
        "tests/unit/cli/test_usage.py::test_the_documented_removal_is_understood"
    ),
    "forebay serve --set access.mode=closed": _ACCOUNTS,
    "forebay users create ann --tenant acme": _ACCOUNTS,
    "forebay keys create --user ann --scope infer --scope read --expires 90d": _ACCOUNTS,
    "forebay keys list": _ACCOUNTS,
    "export FOREBAY_KEY=fb_live_...": _ACCOUNTS,
    'curl -s http://127.0.0.1:8000/v1/models -H "authorization: Bearer $FOREBAY_KEY"': _ACCOUNTS,
    "forebay audit": _ACCOUNTS,
    "forebay audit --verify": _ACCOUNTS,
    "forebay monitoring write monitoring": _MONITORING,
    "forebay monitoring write monitoring --slo slo.yaml --grafana https://grafana.example.com": (
        _MONITORING
    ),
    "promtool check config monitoring/prometheus/prometheus.yml": _MONITORING,
    "amtool check-config monitoring/alertmanager/alertmanager.yml": _MONITORING,
    "sh deploy/monitoring/elasticsearch/apply.sh http://127.0.0.1:9200": _LOG_PATH,
    "rsyslogd -N1 -f deploy/monitoring/rsyslog/rsyslog.conf": _LOG_PATH,
    "curl -s 'http://127.0.0.1:9200/model-api-logs-*/_search' -H 'content-type: application/json' "
    """-d '{"query": {"term": {"http.request.id": "find-me"}}}'""": _LOG_PATH,
    "forebay receipt 4f1c6a52d0e94a7bb3c1": _RECEIPT,
    "forebay receipt 4f1c6a52d0e94a7bb3c1 --json": _RECEIPT,
    "make image": ".github/workflows/test.yml",
    "docker run --rm --name forebay --network host --read-only --tmpfs /tmp --cap-drop ALL "
    "--security-opt no-new-privileges --memory 2g --volume forebay-models:/var/cache/forebay "
    "forebay:0.1.0": "tests/e2e/test_image.py::test_the_documented_command_ends_with_0_on_sigterm",
    "curl -s http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' "
    """-d '{"model": "smollm2-135m-instruct", "max_tokens": 32, "messages": """
    """[{"role": "user", "content": "What is the capital of France?"}]}'""": _README,
}

RUN_WHOLE: Final[dict[str, str]] = {
    "docs/runbooks": "tests/e2e/test_runbooks.py::test_a_pages_commands_show_what_it_says",
}
"""Folder of documents -> the test that reads their commands out of them and runs each."""
