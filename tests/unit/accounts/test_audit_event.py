import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.audit_event import (
    DETAILS_MAX,
    TEXT_MAX,
    Action,
    AuditEvent,
    tidied,
    tidied_details,
)


@given(st.text(max_size=400))
def test_what_is_kept_is_short_and_shown_as_it_is(text: str) -> None:
    kept = tidied(text)
    assert len(kept) <= TEXT_MAX
    assert not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in kept)
    kept.encode()
    assert tidied(kept) == kept


def test_a_text_that_is_cut_says_so() -> None:
    assert tidied("a" * TEXT_MAX) == "a" * TEXT_MAX
    assert tidied("a" * (TEXT_MAX + 1)) == "a" * (TEXT_MAX - 1) + "…"


def test_a_text_cannot_turn_the_line_around() -> None:
    assert "\u202e" not in tidied("safe\u202egnp.exe")
    assert "\u2066" not in tidied("\u2066x")


def test_details_are_few_and_each_is_short() -> None:
    kept = tidied_details({f"{number}": "x" * 1_000 for number in range(100)})
    assert len(kept) == DETAILS_MAX
    assert all(isinstance(value, str) and len(value) <= TEXT_MAX for value in kept.values())


def test_numbers_and_nothing_are_kept_as_they_are() -> None:
    details = {"count": 3, "ratio": 0.5, "admin": True, "until": None}
    assert tidied_details(details) == details
    assert json.loads(json.dumps(tidied_details(details))) == details


def test_an_event_needs_no_more_than_what_was_done() -> None:
    event = AuditEvent(action=Action.LOGOUT)
    assert (event.actor, event.outcome.value, dict(event.details)) == ("", "ok", {})
