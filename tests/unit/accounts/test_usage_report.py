import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.usage_report import (
    By,
    Total,
    as_csv,
    month_start,
    parse_by,
    parse_moment,
    shown_bucket,
    shown_moment,
)


def a_total(*of: str) -> Total:
    return Total(of=of, requests=2, prompt_tokens=30, completion_tokens=4, nanos=150_000)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("day", (By.DAY,)),
        ("month,model", (By.MONTH, By.MODEL)),
        (" user , day ", (By.USER, By.DAY)),
    ],
)
def test_one_or_several_words_say_what_is_kept_apart(text: str, found: tuple[By, ...]) -> None:
    assert parse_by(text) == found


@pytest.mark.parametrize("text", ["", "week", "day,day", "day,model,key,user", "day;model", "Day"])
def test_other_words_are_refused_with_those_that_are_taken(text: str) -> None:
    with pytest.raises(ValueError, match="one to 3 of hour, day, month, model, key, user, tenant"):
        parse_by(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-21", "2026-11-21T00:00:00Z"),
        ("2026-11-21T13:00:00", "2026-11-21T13:00:00Z"),
        ("2026-11-21T13:00:00Z", "2026-11-21T13:00:00Z"),
        ("2026-11-21T13:00:00+02:00", "2026-11-21T11:00:00Z"),
        ("1970-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z"),
    ],
)
def test_a_moment_without_a_zone_is_utc(text: str, shown: str) -> None:
    assert shown_moment(parse_moment(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "now", "21.11.2026", "2026-13-01", "0001-01-01", "9999-01-01"]
)
def test_what_is_no_moment_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="expected a day such as 2026-11-21"):
        parse_moment(text)


def test_a_month_begins_on_its_first_day() -> None:
    assert shown_moment(month_start(parse_moment("2026-11-21T13:00:00Z"))) == "2026-11-01T00:00:00Z"


def test_times_are_written_so_that_they_sort() -> None:
    noon = parse_moment("2026-11-21T12:34:56Z")
    assert shown_bucket(By.HOUR, noon) == "2026-11-21T12:00Z"
    assert shown_bucket(By.DAY, noon) == "2026-11-21"
    assert shown_bucket(By.MONTH, "2026-11") == "2026-11"


def test_csv_has_a_line_of_names_and_exact_money() -> None:
    text = as_csv((By.DAY, By.MODEL), [a_total("2026-11-21", "chat, large")], "USD")
    assert text == (
        "day,model,requests,prompt_tokens,completion_tokens,cost,currency\r\n"
        '2026-11-21,"chat, large",2,30,4,0.00015,USD\r\n'
    )


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_name_becomes_a_formula_in_a_table_program(name: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv((By.USER,), [a_total(name)], "USD"), newline="")))
    assert rows[1][0] == f"'{name}"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_every_name_is_read_back_from_csv_as_it_was(name: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv((By.USER,), [a_total(name)], "USD"), newline="")))
    assert rows[1][0].removeprefix("'") == name.removeprefix("'")
