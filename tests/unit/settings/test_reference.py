from forebay.settings.loading import sections
from forebay.settings.reference import NAMED_SECTIONS, configuration_page
from forebay.settings.sections import settings_of


def test_the_page_has_a_row_for_every_setting() -> None:
    rows = [line for line in configuration_page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        setting.key for setting in settings_of(sections() | NAMED_SECTIONS)
    ]


def test_a_row_says_default_bounds_meaning_and_variable() -> None:
    meaning = "Port to listen on; 0 takes a free one."
    expected = "| `server.port` | `8000` | a whole number from 0 to 65535 |"
    assert f"{expected} {meaning} | restart | `FOREBAY_SERVER__PORT` |" in configuration_page()


def test_a_row_says_what_a_running_server_takes_and_the_other_names() -> None:
    (row,) = (row for row in configuration_page().splitlines() if "admission.waiting_max`" in row)
    assert row.endswith("| live | `FOREBAY_ADMISSION__WAITING_MAX`, `QUEUE_CAPACITY` |")
