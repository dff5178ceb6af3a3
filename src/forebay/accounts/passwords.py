"""Passwords: Argon2id, the same work for whoever is unknown, and none that everybody knows.

Whoever checks passwords for strangers does it in few threads: each check takes
`accounts.password_memory_bytes` and tens of milliseconds of a core, on purpose.
"""

import re
import secrets
import string
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from forebay.accounts.config import AccountsConfig

LENGTH_MIN: Final = 12
"""NIST SP 800-63B asks for 8 with a second factor and 15 without; OWASP's ASVS for 12."""
LENGTH_MAX: Final = 256
"""Longer ones are refused, not cut: hashing megabytes for strangers would be their weapon."""
_LETTERS: Final = string.ascii_letters + string.digits
_GENERATED: Final = 24
"""Letters of a generated password: 142 bits."""
# Passwords that are tried first.  Most are shorter than is allowed: what is refused is a password
# that is one of these with digits and signs around it, as `Admin123456!` is.
# fmt: off
_KNOWN: Final = frozenset({
    "abc", "access", "account", "adm", "admin", "adminadmin", "administrator", "asdfgh", "autumn",
    "baseball", "batman", "changeit", "changeme", "changemenow", "changethis", "company",
    "correcthorsebatterystaple", "default", "demo", "dragon", "example", "football", "forebay",
    "forebayadmin", "forebayforebay", "foobar", "guest", "hello", "iloveyou", "letmein",
    "letmeinnow", "llm", "login", "master", "monkey", "mypassword", "nimda", "operator", "pass",
    "passpass", "passw", "password", "passwordpassword", "passwort", "passwd", "princess",
    "qazwsx", "qazwsxedc", "qwer", "qwert", "qwerty", "qwertyuiop", "qwertz", "root", "rootroot",
    "secret", "secretsecret", "security", "server", "service", "shadow", "spring", "starwars",
    "summer", "sunshine", "superman", "support", "superuser", "system", "temp", "temppassword",
    "temporary", "test", "testtest", "testing", "toor", "trustno", "user", "username", "welcome",
    "whatever", "winter", "yourpassword",
})
# fmt: on
_LEET: Final = str.maketrans("@4831!05$7", "aabeiiosst")
_FRILLS: Final = string.digits + string.punctuation + " "


class Passwords:
    """Hashes and checks passwords, as slowly as configured; safe to use from many threads."""

    def __init__(self, config: AccountsConfig) -> None:
        """Take Argon2's parameters; computes one hash, of a password that nobody has."""
        self._hasher = PasswordHasher(
            time_cost=config.password_passes_min,
            memory_cost=max(config.password_memory_bytes // 1_024, 8 * config.password_threads),
            parallelism=config.password_threads,
            hash_len=32,
            salt_len=16,
            encoding="utf-8",
            type=Type.ID,
        )
        self._nobodys: Final = self._hasher.hash(secrets.token_hex())

    def hashed(self, password: str) -> str:
        """Return what is kept of a password: Argon2's text, with its parameters and salt."""
        return self._hasher.hash(_bytes(password))

    def fits(self, kept: str | None, password: str) -> bool:
        """Whether a password is the one that was kept; None and "" cost the same, and never fit."""
        try:
            self._hasher.verify(kept or self._nobodys, _bytes(password[: LENGTH_MAX + 1]))
        except (VerificationError, InvalidHashError):
            return False
        return bool(kept) and len(password) <= LENGTH_MAX

    def outdated(self, kept: str) -> bool:
        """Whether a kept password should be hashed again, with the parameters of today."""
        return self._hasher.check_needs_rehash(kept)


def weakness(password: str, name: str = "") -> str | None:
    """Say what is wrong with a password, and what to do; None if nothing is."""
    if len(password) < LENGTH_MIN:
        return f"The password has {len(password)} characters; use {LENGTH_MIN} or more."
    if len(password) > LENGTH_MAX:
        return f"The password has {len(password)} characters; use {LENGTH_MAX} at most."
    if len(set(password)) < 5:  # noqa: PLR2004 - `aaaabbbbcccc` is the kind that is meant
        return "The password repeats a few characters; use more different ones."
    lowered = password.casefold()
    cores = (lowered, lowered.rstrip(_FRILLS), lowered.strip(_FRILLS))
    stems = {_letters_of(core) for core in cores}
    stems |= {_letters_of(core.translate(_LEET)) for core in cores}
    own = name.casefold()
    if own and (own in stems or len(lowered.replace(own, "")) < LENGTH_MIN // 2):
        return "The password is the user's name; use one that has nothing to do with it."
    if stems & _KNOWN or _counts(lowered):
        return "The password is one of those that are tried first; use a generated one."
    return None


def generated_password() -> str:
    """Return a new password that nobody will guess."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_GENERATED))


def _letters_of(lowered: str) -> str:
    """Return a password without the digits and signs that people add to please a rule."""
    return re.sub(r"[^a-z]+", "", lowered)


def _counts(lowered: str) -> bool:
    """Whether it is nothing but a row of a keyboard or of the digits, perhaps repeated."""
    rows = ("0123456789", "9876543210", "qwertyuiop", "asdfghjkl", "abcdefghijklmnopqrstuvwxyz")
    return any(lowered in row * (LENGTH_MAX // 10 + 1) for row in rows)


def _bytes(password: str) -> bytes:
    """Return a password's bytes; what is no Unicode has some all the same, and fits nothing."""
    return password.encode("utf-8", errors="surrogatepass")
