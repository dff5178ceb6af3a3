"""Settings of the closed mode that have the right form and are wrong all the same."""

import pytest

from forebay.settings import ConfigurationError, Sources, load


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("server.hosts=http://a.example", "is no host name"),
        ("server.hosts=a.example:80", "is no host name"),
        ("server.trusted_proxies=10.0.0.1/8", "is no address or network"),
        ("gateway.cors_origins=https://a.example/", "is no origin"),
        ("limits.requests=lots", "limits.requests"),
        ("limits.tokens_per_tenant=5/fortnight", "limits.tokens_per_tenant"),
        ("limits.health=many", "limits.health"),
        ("oidc.issuer=https://id.example", "oidc."),
        ("accounts.url=mysql://db/accounts", "accounts.url"),
    ],
)
def test_what_cannot_be_meant_stops_the_start_and_names_who_set_it(
    assignment: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(Sources(assignments=("access.mode=closed", assignment)))
    (problem, *_) = refused.value.problems
    assert words in str(problem)
    if not assignment.startswith("oidc"):
        assert len(refused.value.problems) == 1
        assert problem.set_by == f"--set {assignment.partition('=')[0]}"


def test_where_the_mode_is_not_named_nobody_loses_a_prefix_cache() -> None:
    found = load(Sources(assignments=("access.mode=open",)))
    assert found.settings.engines["openvino"].prefix_cache is True
