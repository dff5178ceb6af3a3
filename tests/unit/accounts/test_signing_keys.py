"""The keys of tokens: one signs, its successor is announced, the older ones verify."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, select

from forebay.accounts.config import AccountsAway
from forebay.accounts.database import Database
from forebay.accounts.schema import SIGNING_KEYS
from forebay.accounts.signing_keys import SigningKeys
from forebay.accounts.token_config import LEEWAY_S_MAX, TokensConfig
from forebay.accounts.tokens import InvalidToken, SigningKey, TokenFault, Tokens
from forebay.core.clock import ManualClock
from tests.support.accounts import a_database
from tests.support.tokens import NOW, RevokedSet

DAY_S = 86_400.0
CONFIG = TokensConfig(rotation_s=DAY_S, ttl_s=3_600.0)


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    with a_database(accounts_url) as database:
        yield database


class Gateway:
    """One gateway's view of the keys, with its own clock."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.now = NOW
        self.keys = SigningKeys(database, CONFIG, clock=self.clock)
        self.tokens = Tokens(self.keys, RevokedSet(), CONFIG)

    def wait(self, seconds: float) -> "Gateway":
        self.clock.advance(seconds)
        self.now += seconds
        return self

    def issue(self) -> str:
        return self.tokens.issue("alice", self.now).token

    def takes(self, token: str) -> bool:
        try:
            self.tokens.verify(token, self.now)
        except InvalidToken as refused:
            assert refused.fault in {TokenFault.KEY, TokenFault.EXPIRED}
            return False
        return True

    def signer(self) -> str:
        return self.keys.signing(self.now).kid


class Counted:
    """A database that counts its readings, and can be away."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.readings = 0
        self.away = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self.readings += 1
        if self.away:
            raise AccountsAway
        with self.inner.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        if self.away:
            raise AccountsAway
        with self.inner.writing() as connection:
            yield connection


def kids(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select(SIGNING_KEYS.c.kid)).scalars())


def test_the_first_key_signs_at_once_and_is_32_random_bytes(database: Database) -> None:
    gateway = Gateway(database)
    key = gateway.keys.signing(NOW)
    assert len(key.secret) == 32
    assert len(set(key.secret)) > 8
    assert gateway.takes(gateway.issue())
    assert kids(database) == [key.kid]


def test_several_gateways_agree_on_the_key(database: Database) -> None:
    one, two = Gateway(database), Gateway(database)
    assert one.signer() == two.signer()
    assert two.takes(one.issue())


def test_a_gateway_finds_a_key_that_it_has_not_seen_within_a_second(database: Database) -> None:
    one, two = Gateway(database), Gateway(database)
    two.signer()
    one.keys.replace_all(NOW)
    token = one.issue()
    assert not two.takes(token)  # it read a moment ago
    assert two.wait(1.0).takes(token)


def test_the_successor_is_known_before_it_signs_and_the_older_key_verifies_on(
    database: Database,
) -> None:
    one, two = Gateway(database), Gateway(database)
    first = one.signer()
    assert two.signer() == first
    one.wait(DAY_S - 60.0)
    two.wait(DAY_S - 60.0)
    assert one.signer() == first
    assert len(kids(database)) == 2  # announced
    assert two.signer() == first
    old = one.issue()
    one.wait(120.0)
    two.wait(120.0)
    second = one.signer()
    assert second != first
    assert two.signer() == second
    assert two.takes(old)
    assert two.takes(one.issue())
    one.wait(3_600.0 + 60.0)
    assert not one.takes(old)


def test_a_key_that_is_over_is_deleted(database: Database) -> None:
    gateway = Gateway(database)
    first = gateway.signer()
    for _ in range(4):
        gateway.wait(DAY_S)
        gateway.signer()
    assert first not in kids(database)
    assert len(kids(database)) <= 3
    assert gateway.keys.find(first, gateway.now) is None


def test_a_server_that_slept_for_a_year_makes_a_key_and_signs(database: Database) -> None:
    gateway = Gateway(database)
    old = gateway.issue()
    gateway.wait(365 * DAY_S)
    assert not gateway.takes(old)
    assert gateway.takes(gateway.issue())
    assert gateway.tokens.issue("alice", gateway.now).expires_in == 3_600


def test_a_date_that_was_a_year_ahead_stops_neither_tokens_nor_rotation(database: Database) -> None:
    gateway = Gateway(database)
    gateway.keys.signing(NOW + 365 * DAY_S)
    gateway.wait(31.0)
    assert gateway.takes(gateway.issue())
    gateway.wait(150.0)
    first = gateway.signer()
    gateway.wait(DAY_S)
    gateway.signer()
    gateway.wait(150.0)
    assert gateway.signer() != first


def test_garbage_kids_cost_one_reading_a_second(database: Database) -> None:
    counted, clock = Counted(database), ManualClock()
    keys = SigningKeys(counted, CONFIG, clock=clock)  # type: ignore[arg-type]
    keys.signing(NOW)
    before = counted.readings
    for number in range(1_000):
        clock.advance(0.01)
        assert keys.find(f"garbage{number}", NOW) is None
    assert 8 <= counted.readings - before <= 11


def test_keys_that_are_known_are_not_read_for_each_token(database: Database) -> None:
    counted, clock = Counted(database), ManualClock()
    keys = SigningKeys(counted, CONFIG, clock=clock)  # type: ignore[arg-type]
    kid = keys.signing(NOW).kid
    before = counted.readings
    for _ in range(1_000):
        clock.advance(0.06)
        assert keys.find(kid, NOW) is not None
    assert counted.readings - before <= 2


def test_while_the_database_is_away_the_known_keys_go_on(database: Database) -> None:
    counted, clock = Counted(database), ManualClock()
    keys = SigningKeys(counted, CONFIG, clock=clock)  # type: ignore[arg-type]
    kid = keys.signing(NOW).kid
    counted.away = True
    for _ in range(10):
        clock.advance(100.0)
        assert keys.find(kid, NOW) is not None
        assert keys.signing(NOW).kid == kid


def test_a_first_reading_that_fails_is_tried_again_once_a_second(database: Database) -> None:
    counted, clock = Counted(database), ManualClock()
    counted.away = True
    keys = SigningKeys(counted, CONFIG, clock=clock)  # type: ignore[arg-type]
    for _ in range(100):
        with pytest.raises(AccountsAway):
            keys.find("k", NOW)
    assert counted.readings == 1
    counted.away = False
    clock.advance(1.0)
    assert keys.find("k", NOW) is None


def test_an_unknown_kid_is_not_called_invalid_while_the_database_is_away(
    database: Database,
) -> None:
    counted, clock = Counted(database), ManualClock()
    keys = SigningKeys(counted, CONFIG, clock=clock)  # type: ignore[arg-type]
    keys.signing(NOW)
    counted.away = True
    clock.advance(2.0)
    with pytest.raises(AccountsAway):
        keys.find("another gateway's", NOW)


def test_many_threads_at_the_start_make_one_key(database: Database) -> None:
    gateway = Gateway(database)
    found: list[SigningKey] = []
    threads = [
        threading.Thread(target=lambda: found.append(gateway.keys.signing(NOW))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.kid for key in found}) == 1
    assert len(kids(database)) == 1


def test_gateways_that_start_at_the_same_moment_take_each_others_tokens(
    database: Database,
) -> None:
    gateways = [Gateway(database) for _ in range(4)]
    barrier, found = threading.Barrier(len(gateways)), dict[int, str]()

    def start(number: int) -> None:
        barrier.wait(5.0)
        found[number] = gateways[number].issue()

    threads = [threading.Thread(target=start, args=(number,)) for number in range(len(gateways))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gateway in gateways:
        gateway.wait(1.0)
        assert all(gateway.takes(token) for token in found.values())
    for gateway in gateways:
        gateway.wait(180.0)
    assert len({gateway.signer() for gateway in gateways}) == 1


def test_replacing_all_keys_ends_every_token(database: Database) -> None:
    gateway = Gateway(database)
    token = gateway.issue()
    gateway.keys.replace_all(NOW)
    assert not gateway.takes(token)
    assert gateway.takes(gateway.issue())
    assert len(kids(database)) == 1


def test_after_a_leap_of_the_date_the_signer_is_one_whose_tokens_live_their_whole_time(
    database: Database,
) -> None:
    gateway = Gateway(database)
    first = gateway.signer()
    gateway.now += DAY_S + 3_700.0  # the machine slept, and the clock of readings with it
    issued = gateway.tokens.issue("alice", gateway.now)
    assert issued.expires_in == 3_600
    assert gateway.signer() != first


def test_a_key_that_is_over_neither_signs_nor_verifies_before_it_is_deleted(
    database: Database,
) -> None:
    gateway = Gateway(database)
    first = gateway.keys.signing(gateway.now)
    gateway.now = first.retires + 1.0
    assert gateway.signer() != first.kid
    assert gateway.keys.find(first.kid, gateway.now) is not None, "clocks may be a little off"
    gateway.now = first.retires + LEEWAY_S_MAX
    assert gateway.keys.find(first.kid, gateway.now) is None


def test_every_token_lives_its_whole_time_however_late_a_successor_is_made(
    database: Database,
) -> None:
    gateway = Gateway(database)
    signers = {gateway.signer()}
    gateway.wait(DAY_S - 130.0)
    for _ in range(60):
        gateway.wait(7.0)
        assert gateway.tokens.issue("alice", gateway.now).expires_in == 3_600
        signer = gateway.keys.signing(gateway.now)
        assert signer.created == NOW or signer.created + 120.0 <= gateway.now, "others know it"
        signers.add(signer.kid)
    assert len(signers) == 2


class Overtaken(Counted):
    """A database in which another gateway writes first."""

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        Gateway(self.inner).signer()
        with self.inner.writing() as connection:
            yield connection


def test_a_gateway_that_another_was_faster_than_makes_no_second_key(database: Database) -> None:
    slow = Gateway(Overtaken(database))  # type: ignore[arg-type]  # it stands for one
    assert kids(database) == []
    signer = slow.signer()
    assert kids(database) == [signer]
