"""What headers ask for, and what is refused by name."""

import pytest

from forebay.core.errors import Invalid
from forebay.core.request import NO_REUSE, Priority, Reuse
from forebay.gateway.wishes import Wishes, wishes

NOW_S = 1_700_000_000.0


def read(**headers: str) -> Wishes:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return wishes(given, wall_s=NOW_S, longest_s=600.0)


def refusal(**headers: str) -> Invalid:
    with pytest.raises(Invalid) as refused:
        read(**headers)
    return refused.value


def test_no_header_asks_for_nothing() -> None:
    assert read(accept="*/*") == Wishes()


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b ~ !", "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_a_key_of_printable_ascii_is_taken(key: str) -> None:
    assert read(idempotency_key=key).key == key


def test_a_key_written_as_a_structured_string_is_the_same_key() -> None:
    assert read(idempotency_key='"abc"').key == "abc"


@pytest.mark.parametrize("key", ["", '""', "k" * 256, "k" * 10_000, "a\tb", "a\x00b", "ключ", "é"])
def test_a_key_that_is_none_is_refused_by_name(key: str) -> None:
    error = refusal(idempotency_key=key)
    assert error.param == "Idempotency-Key"
    assert "1 to 255 printable ASCII characters" in error.message


@pytest.mark.parametrize("blanks", [" ", "\t", "  \t "])
def test_blanks_behind_a_value_are_no_part_of_it(blanks: str) -> None:
    assert read(idempotency_key="abc" + blanks).key == "abc"
    assert read(last_event_id="17" + blanks).resume_after == 17
    assert read(x_request_timeout="5" + blanks).time_left_s == 5.0


def test_last_event_id_is_a_count() -> None:
    assert read(last_event_id="17").resume_after == 17
    assert read(last_event_id="17").resume_of == ""
    marked = read(last_event_id="17-0123abcd")
    assert (marked.resume_after, marked.resume_of) == (17, "0123abcd")


@pytest.mark.parametrize(
    "given", ["", "-1", "1.5", "x", "9" * 30, " 1", "1-", "1-x", "1-0123abcde"]
)
def test_a_last_event_id_that_is_no_count_is_refused_by_name(given: str) -> None:
    assert refusal(last_event_id=given).param == "Last-Event-ID"


def test_a_timeout_is_seconds_from_the_receipt() -> None:
    assert read(x_request_timeout="2.5").time_left_s == 2.5


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "1e9", "601", "10s", "", "9" * 40])
def test_an_impossible_timeout_is_refused_by_name(given: str) -> None:
    error = refusal(x_request_timeout=given)
    assert error.param == "X-Request-Timeout"
    assert "at most 600" in error.message


def test_a_deadline_is_a_moment_on_the_wall() -> None:
    assert read(x_request_deadline_ms="1700000003000").time_left_s == 3.0


@pytest.mark.parametrize("given", ["1699999999999", "1500", "1700000601000", "-5", "soon"])
def test_an_impossible_deadline_is_refused_by_name(given: str) -> None:
    assert refusal(x_request_deadline_ms=given).param == "X-Request-Deadline-Ms"


def test_the_earlier_of_timeout_and_deadline_counts() -> None:
    wished = read(x_request_timeout="9", x_request_deadline_ms="1700000003000")
    assert wished.time_left_s == 3.0


@pytest.mark.parametrize(
    ("given", "priority"), [("batch", Priority.BATCH), ("Interactive", Priority.INTERACTIVE)]
)
def test_a_class_is_named(given: str, priority: Priority) -> None:
    assert read(x_priority=given).priority is priority


@pytest.mark.parametrize("given", ["high", "", "1"])
def test_an_unknown_class_is_refused_with_the_known_ones(given: str) -> None:
    error = refusal(x_priority=given)
    assert error.param == "X-Priority"
    assert "interactive or batch" in error.message


@pytest.mark.parametrize(
    ("given", "reuse"),
    [
        ("no-store", NO_REUSE),
        ("no-cache", Reuse(read=False, write=True)),
        ("max-age=60", Reuse(read=True, write=True, age_s_max=60.0)),
        ("no-cache, max-age=60", Reuse(read=False, write=True, age_s_max=60.0)),
        ("max-age=60, no-store", NO_REUSE),
    ],
)
def test_cache_control_says_what_may_be_reused(given: str, reuse: Reuse) -> None:
    assert read(cache_control=given).reuse == reuse


def test_a_directive_without_effect_is_named() -> None:
    assert read(cache_control="only-if-cached").ignored == ("cache-control",)


def test_zeros_before_a_max_age_do_not_make_it_none() -> None:
    reuse = read(cache_control="max-age=0000000000000060").reuse
    assert reuse is not None
    assert reuse.age_s_max == 60.0


def test_a_max_age_without_a_number_is_refused() -> None:
    assert refusal(cache_control="max-age=soon").param == "Cache-Control"


@pytest.mark.parametrize(("given", "attach"), [("false", False), ("0", False), ("true", True)])
def test_attaching_can_be_declined(given: str, attach: bool) -> None:
    assert read(x_forebay_attach=given).attach is attach
