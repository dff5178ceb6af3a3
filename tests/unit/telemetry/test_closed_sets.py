"""Labels whose values are somebody else's: what the catalogue lists is what there is."""

from forebay.accounts.tokens import TokenFault
from forebay.serve.login import LoginResult
from forebay.telemetry.access_catalogue import LOGIN_RESULTS, TOKEN_FAULTS
from forebay.telemetry.catalogue import UNKNOWN


def test_every_end_of_a_login_has_its_label() -> None:
    assert set(LOGIN_RESULTS) == set(LoginResult)


def test_every_fault_of_a_token_has_its_label() -> None:
    assert set(TOKEN_FAULTS) == {*TokenFault, UNKNOWN}
