"""What tokens are like: how long ours live, and whose else are taken."""

from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob

LEEWAY_S_MAX: Final = 60.0
"""RFC 8725 and its readers: a minute forgives two clocks that somebody sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensConfig:
    """The tokens that `POST /auth/login` gives."""

    ttl_s: float = knob(
        3_600.0,
        "How long a token lives after its login, in seconds.",
        minimum=60.0,
        maximum=604_800.0,
    )
    issuer: str = knob(
        "forebay", "What our tokens say in `iss`; servers of one accounts database agree on it."
    )
    audience: str = knob(
        "forebay", "What our tokens say in `aud`; a token for another server is not taken."
    )
    rotation_s: float = knob(
        604_800.0,
        "How long one key signs tokens before the next one does, in seconds; a week.",
        minimum=3_600.0,
        maximum=31_536_000.0,
    )
    leeway_s: float = knob(
        30.0,
        "How far the clocks of those who make tokens may be from ours, in seconds.",
        minimum=0.0,
        maximum=LEEWAY_S_MAX,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcConfig:
    """Tokens of another issuer (OpenID Connect); taken where `oidc.issuer` is set."""

    issuer: str = knob("", "What its tokens say in `iss`, to the letter; empty: none are taken.")
    audience: str = knob("", "What its tokens must say in `aud`: the name of this server there.")
    jwks_url: str = knob(
        "", "Where its public keys are: https, or http on this machine; no redirect is followed."
    )
    algorithms: str = knob(
        "RS256,ES256",
        "Signatures that are taken, by comma: RS256, RS384, RS512, PS256, PS384, PS512, ES256,"
        " ES384, ES512, EdDSA.",
    )
    types: str = knob(
        "JWT,at+jwt", "What its tokens may say in `typ`, by comma; none said counts as JWT."
    )
    user_claim: str = knob("sub", "The claim that names the user, who is `oidc:<name>` here.")
    role_claim: str = knob(
        "",
        "The claim that names roles, with dots into objects (realm_access.roles);"
        " empty: everybody is a user.",
    )
    roles: str = knob(
        "",
        "Role there = role here, by comma: `llm-admins=admin, ops=operator`."
        " The first that fits counts; who has none of them is refused.",
    )
    tenant_claim: str = knob("", "The claim that names the tenant; empty: `oidc.tenant`.")
    tenant: str = knob("oidc", "The tenant of those whose token names none.")
    refresh_s: float = knob(
        600.0,
        "How often its keys are fetched again, in seconds.",
        minimum=10.0,
        maximum=86_400.0,
    )
    stale_s_max: float = knob(
        86_400.0,
        "How long known keys are taken while new ones cannot be fetched, in seconds.",
        minimum=0.0,
        maximum=604_800.0,
    )
    timeout_s: float = knob(
        3.0,
        "Longest time to fetch its keys, in seconds.",
        minimum=0.1,
        maximum=30.0,
    )
    leeway_s: float = knob(
        30.0,
        "How far its clock may be from ours, in seconds.",
        minimum=0.0,
        maximum=LEEWAY_S_MAX,
    )
