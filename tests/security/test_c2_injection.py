"""Row 6, injection before authentication (CVE-2026-42208): what is shown is a value, nowhere text.

That no SQL is put together is a rule of tests/tidy/test_calls.py.
"""

import random
from collections.abc import Iterator

import pytest

from forebay.accounts import api_key
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey
from forebay.core.caller import Right, Role
from forebay.core.errors import Invalid
from forebay.drill import hostile_credentials
from tests.support.accounts import a_database, a_directory

ODD = (
    *(
        "' OR '1'='1",
        "ann'--",
        "ann'; DROP TABLE users;--",
        '" OR ""="',
        "ann\x00",
        "\x00",
        "%",
        "_",
    ),
    *(
        "ann' UNION SELECT digest FROM keys--",
        "*",
        "",
        " ",
        "a" * 100_000,
        "\ud800",
        "{{7*7}}",
        "$1",
    ),
    *(":name_is", "?", "ann\\", "Ann", "ann ", " ann", "ānn", "ann\u200b", "%s", "(SELECT 1)"),
)


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    with a_database(accounts_url) as database:
        yield database


@pytest.fixture
def directory(database: Database) -> Directory:
    directory = a_directory(database)
    directory.create_user("ann", role=Role.ADMIN, password="a long passphrase of ann's")
    return directory


def test_no_text_that_is_shown_for_a_key_finds_anybody(directory: Directory) -> None:
    key, text = directory.create_key(NewKey(user="ann", scopes=frozenset({Right.INFER})))
    draw = random.Random(6)
    makers = (
        *(hostile_credentials.odd, hostile_credentials.noise, hostile_credentials.token),
        *(hostile_credentials.key_with_checksum, hostile_credentials.key_without_checksum),
    )
    for shown in (*ODD, *(maker(draw) for maker in makers for _ in range(200))):
        assert directory.caller_of_key(shown, 1.0) is None, shown
    caller = directory.caller_of_key(text, 1.0)
    assert caller is not None
    assert caller.key_id == key.id, "the tables are as they were"


def test_a_key_with_a_right_checksum_comes_as_far_as_the_database() -> None:
    """Otherwise the fuzz of credentials would end at the first check."""
    draw = random.Random(6)
    assert all(api_key.parse(hostile_credentials.key_with_checksum(draw)) for _ in range(50))
    assert not any(api_key.parse(hostile_credentials.key_without_checksum(draw)) for _ in range(50))


def test_a_key_of_ours_with_one_letter_changed_opens_nothing(directory: Directory) -> None:
    _, text = directory.create_key(NewKey(user="ann", scopes=frozenset({Right.INFER})))
    for place in range(len(text)):
        for letter in "0aZ":
            changed = text[:place] + letter + text[place + 1 :]
            assert changed == text or directory.caller_of_key(changed, 1.0) is None
    stem = text[: -len("CCCCCC")]
    for place in range(len("fb_live_") + 10, len(stem)):
        changed = stem[:place] + ("a" if stem[place] != "a" else "b") + stem[place + 1 :]
        assert directory.caller_of_key(changed + api_key._check(changed), 1.0) is None


@pytest.mark.parametrize("name", ODD)
def test_no_odd_name_finds_a_user(directory: Directory, name: str) -> None:
    assert directory.caller_of_user(name) is None
    assert directory.password_of(name) is None
    with pytest.raises(Invalid):
        directory.create_user(name, role=Role.ADMIN)
    assert [user.name for user in directory.users()] == ["ann"]
