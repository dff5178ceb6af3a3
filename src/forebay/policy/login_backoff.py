"""How long somebody who logs in in vain has to wait, without keeping anybody else out.

Theory of operation
-------------------
Failures are counted three times over: for an account as it is tried from one address, for an
address whatever it tries, and for an account whoever tries it.  Each count is free for a while,
then each further failure doubles the wait, up to a bound; the longest of the three holds.  What
is tried during a wait is not checked and not counted, so nobody lengthens another's wait.

An attempt counts as failed when it begins, so that a thousand at once are no way around; if it
succeeds it is taken back.  A success forgives its account at its address, and nobody else: who
has an account of their own cannot forgive their address by logging in between two guesses.

Who has logged in from an address before is *known* there: strangers who try the account from
elsewhere, or others behind the same address, do not make it wait.  So the owner of an account is
slowed by strangers only at an address that is new, and for `account_wait_s_max` at a time.

Nothing here knows whether an account exists.  The tables are bounded; the oldest entry goes
first.  Pure: the moment is an argument.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final

from forebay.core.knob import knob
from forebay.policy.addresses import network_of

_DOUBLINGS_MAX: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffConfig:
    """How many failures are free, and how long the waits get."""

    pair_failures_max: int = knob(
        5,
        "Failed logins to one account from one address that cost no wait.",
        minimum=1,
        maximum=1_000,
    )
    pair_wait_s_max: float = knob(
        300.0,
        "Longest wait after more of them, in seconds; it doubles from 1 s.",
        minimum=0.0,
        maximum=86_400.0,
    )
    address_failures_max: int = knob(
        20,
        "Failed logins from one address (IPv6: its /64), to any account, that cost no wait.",
        minimum=1,
        maximum=100_000,
    )
    address_wait_s_max: float = knob(
        60.0,
        "Longest wait after more of them, in seconds; it doubles from 1 s.",
        minimum=0.0,
        maximum=86_400.0,
    )
    account_failures_max: int = knob(
        50,
        "Failed logins to one account, from any address, that cost no wait.",
        minimum=1,
        maximum=100_000,
    )
    account_wait_s_max: float = knob(
        30.0,
        "Longest wait after more of them, in seconds; who logged in from an address before does "
        "not wait there.",
        minimum=0.0,
        maximum=86_400.0,
    )
    forgotten_s: float = knob(
        1_800.0,
        "How long after the last failure the failures are forgotten, in seconds.",
        minimum=1.0,
        maximum=604_800.0,
    )
    known_s: float = knob(
        2_592_000.0,
        "How long who has logged in from an address is known there, in seconds; 30 days.",
        minimum=0.0,
        maximum=31_536_000.0,
    )
    remembered_max: int = knob(
        20_000,
        "Most accounts, addresses, and accounts at addresses that are remembered, each.",
        minimum=100,
        maximum=10_000_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Somebody who wants to log in, as it is counted."""

    account: str
    network: str
    known: bool
    """Somebody has logged in to this account from this address before."""
    began: float
    wait_s: float = 0.0
    """More than 0: it has to wait, and is not counted."""


class LoginBackoff:
    """Says who has to wait.  Its whole mutable state is in its four tables."""

    def __init__(self, config: BackoffConfig) -> None:
        """Hold everybody to `config`."""
        self._config = config
        self._pairs = _Failures(config, config.pair_failures_max, config.pair_wait_s_max)
        self._addresses = _Failures(config, config.address_failures_max, config.address_wait_s_max)
        self._accounts = _Failures(config, config.account_failures_max, config.account_wait_s_max)
        self._known: OrderedDict[Hashable, float] = OrderedDict()

    def begin(self, account: str, address: str, now: float) -> Attempt:
        """Return an attempt that may be checked, or has to wait.

        One that may counts as failed, until `succeeded` or `withdrawn` says otherwise.
        """
        network = network_of(address)
        since = self._known.get((account, network))
        known = since is not None and now - since <= self._config.known_s
        attempt = Attempt(account=account, network=network, known=known, began=now)
        counted = self._counted(attempt)
        wait_s = max(table.wait_s(key, now) for table, key in counted)
        if wait_s > 0.0:
            return replace(attempt, wait_s=wait_s)
        for table, key in counted:
            table.count(key, now)
        return attempt

    def succeeded(self, attempt: Attempt, now: float) -> None:
        """Take an attempt back, and forgive its account at its address."""
        self.withdrawn(attempt)
        pair = (attempt.account, attempt.network)
        self._pairs.forgive(pair)
        self._known[pair] = now
        self._known.move_to_end(pair)
        if len(self._known) > self._config.remembered_max:
            self._known.popitem(last=False)

    def withdrawn(self, attempt: Attempt) -> None:
        """Take an attempt back that was not checked after all."""
        for table, key in self._counted(attempt):
            table.take_back(key, attempt.began)

    def _counted(self, attempt: Attempt) -> "tuple[tuple[_Failures, Hashable], ...]":
        pair = (self._pairs, (attempt.account, attempt.network))
        if attempt.known:
            return (pair,)
        return (
            pair,
            (self._addresses, attempt.network),
            (self._accounts, attempt.account),
        )


class _Failures:
    """Counts of one kind: key -> failures, when the last was, and until when one has to wait."""

    def __init__(self, config: BackoffConfig, free: int, wait_s_max: float) -> None:
        self._config = config
        self._free = free
        self._wait_s_max = wait_s_max
        self._counts: OrderedDict[Hashable, tuple[int, float, float]] = OrderedDict()

    def wait_s(self, key: Hashable, now: float) -> float:
        _, _, until = self._counts.get(key, (0, now, now))
        return max(0.0, until - now)

    def count(self, key: Hashable, now: float) -> None:
        failures, last, _ = self._counts.get(key, (0, now, now))
        failures = 1 if now - last > self._config.forgotten_s else failures + 1
        doublings = min(failures - self._free, _DOUBLINGS_MAX)
        wait_s = min(self._wait_s_max, 2.0**doublings) if doublings >= 0 else 0.0
        self._counts[key] = (failures, now, now + wait_s)
        self._counts.move_to_end(key)
        if len(self._counts) > self._config.remembered_max:
            self._counts.popitem(last=False)

    def take_back(self, key: Hashable, began: float) -> None:
        """Count one failure less; when the attempt began nobody had to wait."""
        failures, last, until = self._counts.get(key, (0, began, began))
        if failures > 1:
            self._counts[key] = (failures - 1, last, min(until, began))
        else:
            self._counts.pop(key, None)

    def forgive(self, key: Hashable) -> None:
        self._counts.pop(key, None)
