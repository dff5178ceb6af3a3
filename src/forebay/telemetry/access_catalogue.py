"""What is counted of those who want to be let in: the rows of the catalogue for access."""

from typing import Final

from forebay.telemetry.metric import Kind, Label, Metric

LOGIN_RESULTS: Final = ("ok", "wrong", "backed_off", "overloaded", "away")
TOKEN_FAULTS: Final = (
    *("too_long", "malformed", "header", "algorithm", "type", "key", "signature"),
    *("claims", "issuer", "audience", "expired", "not_yet", "role", "revoked", "unknown"),
)
"""Why a token was not taken."""

LOGINS: Final = Metric(
    name="llm_logins_total",
    kind=Kind.COUNTER,
    help="Attempts to log in with a password, by how they ended.",
    action="Rising wrong, backed_off, overloaded: somebody guesses; the audit log says from where.",
    labels=(Label.RESULT,),
)
TOKENS_REFUSED: Final = Metric(
    name="llm_tokens_refused_total",
    kind=Kind.COUNTER,
    help="Tokens (JWT) that were not taken, by what was wrong with them.",
    action="expired is normal. algorithm, signature, header, issuer: somebody forges, or an"
    " issuer is set up wrongly.",
    labels=(Label.REASON,),
)

ACCESS_METRICS: Final = (LOGINS, TOKENS_REFUSED)
