"""Does the time that a wrong credential takes tell how wrong it is?  Welch's t over many samples.

Two classes of input are drawn in random order and timed one by one; |t| of 4.5 is where testing for
side channels calls a difference real.  The slowest tenth of each is left out: what the machine does
beside is there, and a leak is everywhere.  The last row is the control: a comparison that leaks on
purpose, so that one sees that the method sees.
"""

import asyncio
import gc
import hashlib
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from forebay.accounts import api_key
from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.passwords import Passwords
from forebay.accounts.people import NewKey
from forebay.core.caller import Caller, Right, Role
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Unauthenticated
from forebay.serve.clerks import Clerks
from forebay.serve.credentials import AccessConfig, Credentials

T_MAX: Final = 4.5
SAMPLES: Final = 100_000
"""Of each comparison, both classes together."""
_PASSWORDS: Final = 2_000
"""Of the comparison of passwords, which take milliseconds on purpose."""
_POOL: Final = 200
_LETTERS: Final = "0123456789abcdefghijABCDEFGHIJ"
"""So many wrong keys of each right one: where a text lies in a table averages out."""
_CROP: Final = 0.9
_SEED: Final = 5
_NOW: Final = 1.0

Check = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two classes of input to one check."""

    what: str
    check: Check
    one: Sequence[str]
    other: Sequence[str]
    samples: int = SAMPLES
    leaks: bool = False
    """It is the control: a difference has to be seen."""


def welch_t(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Welch's t of two samples; 0 where neither varies and both are the same."""
    means = [math.fsum(each) / len(each) for each in (one, other)]
    variances = [
        math.fsum((value - mean) ** 2 for value in each) / (len(each) - 1)
        for each, mean in zip((one, other), means, strict=True)
    ]
    spread = math.sqrt(variances[0] / len(one) + variances[1] / len(other))
    if not spread:
        return 0.0 if means[0] == means[1] else math.inf
    return (means[0] - means[1]) / spread


def cropped(samples: Sequence[int]) -> list[float]:
    """Return the samples without their slowest tenth."""
    return [float(sample) for sample in sorted(samples)[: int(len(samples) * _CROP)]]


def measured(comparison: Comparison, draw: random.Random) -> dict[str, Any]:
    """Time both classes in random order; return what came out."""
    taken: tuple[list[int], list[int]] = ([], [])
    pools = (comparison.one, comparison.other)
    check = comparison.check
    for pool in pools:  # whatever is done at the first time only
        for text in pool[:_POOL]:
            check(text)
    gc.collect()
    gc.disable()
    try:
        for _ in range(comparison.samples):
            which = draw.getrandbits(1)
            text = pools[which][draw.randrange(len(pools[which]))]
            began = time.perf_counter_ns()
            check(text)
            taken[which].append(time.perf_counter_ns() - began)
    finally:
        gc.enable()
    one, other = cropped(taken[0]), cropped(taken[1])
    t = welch_t(one, other)
    return {
        "what": comparison.what,
        "samples": comparison.samples,
        "mean_ns": [math.fsum(each) / len(each) for each in (one, other)],
        "t": t,
        "control": comparison.leaks,
        "passed": (abs(t) >= T_MAX) if comparison.leaks else (abs(t) < T_MAX),
    }


def changed(text: str, place: int) -> list[str]:
    """Return keys that differ in one letter, each with the checksum that belongs to it."""
    stem = text[: -len("CCCCCC")]
    letters = [letter for letter in _LETTERS if letter != stem[place]]
    stems = [stem[:place] + letter + stem[place + 1 :] for letter in letters]
    return [each + api_key._check(each) for each in stems]  # noqa: SLF001 - what anybody computes


def comparisons(folder: Path, *, samples: int, passwords: int) -> list[Comparison]:
    """Return everything that is compared, on a database in `folder`."""
    draw = random.Random(_SEED)  # noqa: S311 - it has to be repeatable
    config = AccountsConfig(
        url=default_url(folder), password_memory_bytes=8 * 1_024 * 1_024, password_passes_min=1
    )
    database = Database(config)
    database.migrate()
    directory = Directory(database, config, now=time.time)
    directory.create_user("ann", role=Role.USER)
    keys = [
        directory.create_key(NewKey(user="ann", scopes=frozenset({Right.INFER})))[1]
        for _ in range(min(_POOL, samples // 100))
    ]
    first, last = len(api_key.PREFIX) + 10, api_key.LENGTH - 7
    early = [text for key in keys for text in changed(key, first)]
    late = [text for key in keys for text in changed(key, last)]
    unknown = [api_key.make().text for _ in early]
    # Where a text or its digest lies in memory must not depend on its class.
    early, late, unknown = _strewn(draw, early, late, unknown)

    def found(text: str) -> Caller | None:
        return directory.caller_of_key(text, _NOW)

    learnt = [*early, *late, *unknown]
    draw.shuffle(learnt)
    pairs = {"first letter wrong, last wrong": late, "id known, id unknown": unknown}
    checks: dict[str, Check] = {"key": found, "key known to be wrong": _cached(found, learnt)}
    return [
        Comparison(what=f"{name}: {what}", check=check, one=early, other=other, samples=samples)
        for name, check in checks.items()
        for what, other in pairs.items()
    ] + [
        _of_passwords(Passwords(config), passwords),
        Comparison(
            what="control: compared letter by letter",
            check=_leaking(keys[0]),
            leaks=True,
            one=changed(keys[0], first),
            other=changed(keys[0], last),
            samples=samples,
        ),
    ]


def _of_passwords(passwords: Passwords, samples: int) -> Comparison:
    kept = passwords.hashed("a long passphrase of ann's")
    tried = [f"a wrong passphrase {at}" for at in range(20)]
    return Comparison(
        what="password: user known, user unknown",
        check=lambda text: passwords.fits(kept if text[0] == "k" else None, text[1:]),
        one=["k" + text for text in tried],
        other=["u" + text for text in tried],
        samples=samples,
    )


def _strewn(draw: random.Random, *pools: list[str]) -> list[list[str]]:
    """Return the pools with texts that were made anew in random order."""
    places = [(which, at) for which, pool in enumerate(pools) for at in range(len(pool))]
    draw.shuffle(places)
    found: list[list[str]] = [[] for _ in pools]
    for which, at in places:
        found[which].append("".join([*pools[which][at]]))
    return found


def _cached(found: Callable[[str], Caller | None], texts: Sequence[str]) -> Check:
    """Return the gateway's own check, which remembers these texts."""
    clerks = Clerks(threads=1, asked_max=8)
    config = AccessConfig(mode="closed", cached_s=300.0, credentials_max=100_000)
    credentials = Credentials(found, config, clerks=clerks, now=MONOTONIC, wall=time.time)

    async def learn() -> None:
        for text in texts:
            try:
                await credentials.find(text.encode())
            except Unauthenticated:
                continue

    asyncio.run(learn())

    def check(text: str) -> None:
        # What is remembered is answered without waiting, so no loop is needed.
        asking = credentials.find(text.encode())
        try:
            asking.send(None)
        except Unauthenticated:
            return
        raise AssertionError("it was not remembered")

    return check


def _leaking(kept: str) -> Check:
    def check(text: str) -> bool:
        hashlib.sha256(text.encode()).digest()
        return all(one == other for one, other in zip(kept, text, strict=True))

    return check


def run(samples: int = SAMPLES, passwords: int = _PASSWORDS) -> dict[str, Any]:
    """Measure everything; return the figures."""
    draw = random.Random(_SEED)  # noqa: S311 - as above
    with tempfile.TemporaryDirectory(prefix="forebay-timing-") as folder:
        wanted = comparisons(Path(folder), samples=samples, passwords=passwords)
        return {
            "machine": machine.facts(),
            "comparisons": [measured(each, draw) for each in wanted],
        }


def report(found: dict[str, Any]) -> str:
    """Return the figures as a table."""
    rows = [["what", "samples", "mean of one", "of the other", "t", ""]]
    for each in found["comparisons"]:
        one, other = (f"{mean / 1_000:,.2f} us" for mean in each["mean_ns"])
        verdict = "pass" if each["passed"] else "FAIL"
        if each["control"]:
            verdict = "seen" if each["passed"] else "NOT SEEN"
        rows.append([each["what"], f"{each['samples']:,}", one, other, f"{each['t']:.2f}", verdict])
    return machine.table(f"Timing of credentials (|t| below {T_MAX})", rows)
